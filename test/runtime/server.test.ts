import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { type Config, readConfig } from "#runtime/node/config.ts";
import { type Databases, openDatabases } from "#runtime/node/database.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { startServer } from "#runtime/node/server.ts";
import { withDatabase, withEmptyDatabase } from "#test/support/database.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { withServerProcess } from "./server-process.ts";

test("with no settings at all it brings its own database, and a kill -9 loses nothing", async () => {
  await using folder = await withTemporaryFolder();
  const base = join(folder.path, "base");
  const first = await withServerProcess(base);
  const account = { username: "ada", name: "Ada", email: "ada@example.org", password: "Correct-Horse-9-Battery" };
  const registered = await post(`${first.url}/api/v1/auth/basic/register`, account);
  expect(await registered.text()).toContain('"error":false');
  await first[Symbol.asyncDispose]();

  await using second = await withServerProcess(base);
  const signedIn = await post(`${second.url}/api/v1/auth/basic/login`, {
    loginname: account.username,
    password: account.password,
  });

  expect(signedIn.status).toBe(200);
  expect((await stat(base)).mode & 0o777).toBe(0o700);
  expect((await readdir(base)).sort()).toEqual(["lock", "postgres", "secrets", "storage"]);
  expect((await stat(join(base, "secrets", "crypt"))).mode & 0o777).toBe(0o600);
});

test("SIGTERM lets a request under way end, and leaves nothing running", async () => {
  await using folder = await withTemporaryFolder();
  await using server = await withServerProcess(folder.path);
  const pid = await postmasterId(folder.path);
  const slow = request(`${server.url}/api/v1/auth/basic/login`, {
    method: "POST",
    headers: { "content-type": "application/json", "content-length": "40" },
  });
  const answered = new Promise<string>((resolve, reject) => {
    slow.on("error", reject);
    slow.on("response", (response) => resolve(text(response)));
  });
  slow.write('{"loginname":"ada",');
  await expect.poll(() => fetch(`${server.url}/api/v1/health`).then(({ status }) => status)).toBe(200);

  server.process.kill("SIGTERM");
  await expect.poll(() => server.lines.join("\n"), { timeout: 20_000 }).toContain('"message":"stopping"');
  slow.end('"password":"wrong"}  '.padEnd(21));

  expect(await answered).toContain('"error":true');
  expect((await server.ended).code).toBe(0);
  await expect(stat(`/proc/${pid}`)).rejects.toThrow("ENOENT");
});

test("when its PostgreSQL dies the server says so and ends", async () => {
  await using folder = await withTemporaryFolder();
  await using server = await withServerProcess(folder.path);

  process.kill(await postmasterId(folder.path), "SIGKILL");

  expect((await server.ended).code).toBe(1);
  expect(server.lines.join("\n")).toContain('"reason":"its PostgreSQL ended with SIGKILL"');
});

test("a second server on the folder is refused, and the first goes on", async () => {
  await using folder = await withTemporaryFolder();
  await using server = await withServerProcess(folder.path);

  await expect(withServerProcess(folder.path)).rejects.toThrow(
    `gradient-server: another server is running on ${folder.path}: stop it first, or set GRADIENT_BASE_PATH`,
  );

  expect((await fetch(`${server.url}/api/v1/health`)).status).toBe(200);
});

test("a wrong configuration ends the start with everything that is wrong", async () => {
  await using folder = await withTemporaryFolder();

  const start = withServerProcess(folder.path, { GRADIENT_PORT: "x", GRADIENT_DISCOVERABLE: "perhaps" });

  await expect(start).rejects.toThrow(
    "gradient-server: the configuration cannot be used:\n" +
      "  - GRADIENT_PORT=x: must be a whole number from 0 to 65535\n" +
      "  - GRADIENT_DISCOVERABLE=perhaps: must be true or false",
  );
});

test("a given database is used and migrated, and both pools work on it", async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withEmptyDatabase();
  const server = await startServer(configFor(folder.path, { GRADIENT_DATABASE_URL: database.url }), loggers());

  const health = await fetch(`${server.url}/api/v1/health`);
  const { rows } = await sql`select to_regclass('evaluation')::text as name`.execute(database.db);
  await server.close();

  expect(await health.json()).toEqual({ error: false, message: "200 ALIVE" });
  expect(rows).toEqual([{ name: "evaluation" }]);
  expect(await readdir(folder.path)).not.toContain("postgres");
});

test("WebSockets of live updates are answered by the API, and those of no path by nobody", async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const server = await startServer(configFor(folder.path, { GRADIENT_DATABASE_URL: database.url }), loggers());
  try {
    const live = await upgrade(`${server.url}/api/v1/evals/01900000-0000-7000-8000-000000000000/live`);
    const none = await upgrade(`${server.url}/api/v1/evals`);

    expect([live.status, JSON.parse(live.body).code]).toEqual([404, "not_found"]);
    expect(none).toEqual({ status: 404, body: "" });
  } finally {
    await server.close();
  }
});

test("servers that start at the same time on an empty database migrate it once", async () => {
  await using database = await withEmptyDatabase();
  const pools = { scheduler: { connectionsMax: 2, connectionsMin: 0 }, web: { connectionsMax: 2, connectionsMin: 0 } };
  const open = () => openDatabases(database.address, pools, quietLogger);

  const opened = await Promise.all([open(), open(), open()]);
  const { rows } = await sql<{ count: number }>`select count(*) from user_account`.execute(
    (opened[1] as Databases).web,
  );
  await Promise.all(opened.map((databases) => databases.close()));

  expect(rows).toEqual([{ count: 0 }]);
});

test("a second server on the same database is refused while NARs are on a local disk", async () => {
  await using first = await withTemporaryFolder();
  await using second = await withTemporaryFolder();
  await using database = await withDatabase();
  const options = { GRADIENT_DATABASE_URL: database.url };
  const server = await startServer(configFor(first.path, options), loggers());
  // A short break of its connection does not cost the first one its place.
  await sql`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'gradient sole server' and datname = current_database()`.execute(database.db);

  await expect(startServer(configFor(second.path, options), loggers())).rejects.toThrow(
    "another server is running on this database, and NARs on a local disk cannot be shared",
  );
  await server.close();
  await (await startServer(configFor(second.path, options), loggers())).close();
});

test("what stands in the way of a start is named, with what to do, and nothing is left over", async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const file = join(folder.path, "file");
  await writeFile(file, "");
  const withUrl = { GRADIENT_DATABASE_URL: database.url };
  await using blocker = await withBlockedPort();

  const inUse = configFor(join(folder.path, "a"), { ...withUrl, GRADIENT_PORT: String(blocker.port) });
  await expect(startServer(inUse, loggers())).rejects.toThrow(
    `127.0.0.1:${blocker.port} is in use by another program: stop it, or set GRADIENT_PORT to another port`,
  );
  const noFolder = configFor(join(file, "base"), withUrl);
  await expect(startServer(noFolder, loggers())).rejects.toThrow(/cannot be used: ENOTDIR.*Set GRADIENT_BASE_PATH/);
  const foreignAddress = configFor(join(folder.path, "a"), { ...withUrl, GRADIENT_IP: "192.0.2.1" });
  await expect(startServer(foreignAddress, loggers())).rejects.toThrow("192.0.2.1 is no address of this machine");
  const badPassword = database.url.replace(/:[^:@/]+@/, ":wrong-password@");
  const noAccess = configFor(join(folder.path, "a"), { GRADIENT_DATABASE_URL: badPassword });
  await expect(startServer(noAccess, loggers())).rejects.toThrow(
    /^no connection to the database: password authentication/,
  );

  // The lock of the folder was given back each time.
  const server = await startServer(configFor(join(folder.path, "a"), withUrl), loggers());
  await server.close();
});

function post(url: string, body: unknown): Promise<Response> {
  return fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

function loggers() {
  return createLoggers(readConfig({}).config.logLevels, { write: () => {} });
}

/** With a database URL the operator gives the secrets; here they do not come from files. */
function configFor(basePath: string, { GRADIENT_DATABASE_URL: url, ...options }: Record<string, string>): Config {
  const { config } = readConfig({ GRADIENT_BASE_PATH: basePath, GRADIENT_PORT: "0", ...options });
  const secret = new TextEncoder().encode("s".repeat(48));
  return { ...config, database: { ...config.database, url: url ?? null }, secrets: { jwt: secret, crypt: secret } };
}

async function postmasterId(base: string): Promise<number> {
  return Number.parseInt(await readFile(join(base, "postgres", "data", "postmaster.pid"), "utf8"), 10);
}

async function withBlockedPort(): Promise<AsyncDisposable & { port: number }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return { port, [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** What is answered to who asks for a WebSocket and gets none. */
async function upgrade(url: string): Promise<{ readonly status: number | undefined; readonly body: string }> {
  const asked = request(url, {
    headers: {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    },
  });
  return await new Promise((resolve, reject) => {
    asked.on("error", reject);
    asked.on("response", (response) =>
      text(response).then((body) => resolve({ status: response.statusCode, body }), reject),
    );
    asked.end();
  });
}
