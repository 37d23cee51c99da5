import { request } from "node:http";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { type RunningServer, startServer } from "#runtime/node/server.ts";
import { type TestDatabase, withDatabase } from "#test/support/database.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";

let folder: TemporaryFolder;
let database: TestDatabase;
beforeAll(async () => {
  folder = await withTemporaryFolder();
  database = await withDatabase();
});
afterAll(async () => {
  await database[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

async function start(options: Record<string, string>): Promise<AsyncDisposable & RunningServer> {
  const { config } = readConfig({ GRADIENT_BASE_PATH: join(folder.path, "base"), GRADIENT_PORT: "0", ...options });
  const secret = new TextEncoder().encode("s".repeat(48));
  const given = { database: { ...config.database, url: database.url }, secrets: { jwt: secret, crypt: secret } };
  const server = await startServer({ ...config, ...given }, createLoggers(config.logLevels, { write: () => {} }));
  return { ...server, [Symbol.asyncDispose]: () => server.close() };
}

interface Upgraded {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly socket: Duplex | null;
}

function upgrade(server: RunningServer): Promise<Upgraded> {
  return new Promise((resolve, reject) => {
    const headers = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    };
    const { port } = new URL(server.url);
    const asked = request({ host: "127.0.0.1", port, path: "/proto", agent: false, headers });
    asked.on("upgrade", (_response, socket) => resolve({ status: 101, retryAfter: undefined, socket }));
    asked.on("response", ({ statusCode = 0, headers: answered }) =>
      resolve({ status: statusCode, retryAfter: answered["retry-after"], socket: null }),
    );
    asked.on("error", reject);
    asked.end();
  });
}

/** The connections of one of the server's pools. */
async function connections(pool: string): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::int as count from pg_stat_activity
    where datname = current_database() and application_name = ${`gradient ${pool}`}`.execute(database.db);
  return rows[0]?.count ?? 0;
}

test("GRADIENT_MAX_PROTO_CONNECTIONS: one worker more is told to come again in ten seconds", async () => {
  await using server = await start({ GRADIENT_MAX_PROTO_CONNECTIONS: "2" });

  const [first] = [await upgrade(server), await upgrade(server)];
  const refused = await upgrade(server);
  expect(first.status).toBe(101);
  expect(refused).toMatchObject({ status: 503, retryAfter: "10" });

  first.socket?.destroy();
  await expect.poll(async () => (await upgrade(server)).status, { timeout: 20_000 }).toBe(101);
});

test("GRADIENT_DISCOVERABLE=false: there is no /proto", async () => {
  await using server = await start({ GRADIENT_DISCOVERABLE: "false" });

  expect((await upgrade(server)).status).toBe(404);
});

test("GRADIENT_ENABLE_REGISTRATION=false: nobody registers, and clients are told before they ask", async () => {
  await using server = await start({ GRADIENT_ENABLE_REGISTRATION: "false" });

  const person = { username: "ada", name: "Ada", email: "ada@example.org", password: "Correct-Horse-9-Battery" };
  const answer = await fetch(`${server.url}/api/v1/auth/basic/register`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(person),
  });

  expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([400, "registration_disabled"]);
  const config = (await (await fetch(`${server.url}/api/v1/config`)).json()) as { message: object };
  expect(config.message).toMatchObject({ registration_enabled: false });
});

test("GRADIENT_DATABASE_MAX_CONNECTIONS and _WEB_MAX_CONNECTIONS are never exceeded, the minima are kept", async () => {
  await using server = await start({
    GRADIENT_DATABASE_MAX_CONNECTIONS: "4",
    GRADIENT_DATABASE_MIN_CONNECTIONS: "2",
    GRADIENT_DATABASE_WEB_MAX_CONNECTIONS: "2",
    GRADIENT_DATABASE_WEB_MIN_CONNECTIONS: "1",
  });
  const seen = { web: 0, scheduler: 0 };
  let done = false;
  const watch = (async () => {
    while (!done) {
      seen.web = Math.max(seen.web, await connections("web"));
      seen.scheduler = Math.max(seen.scheduler, await connections("scheduler"));
    }
  })();

  const answers = await Promise.all(Array.from({ length: 60 }, () => fetch(`${server.url}/api/v1/orgs/public`)));
  done = true;
  await watch;

  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  expect(seen.web).toBeLessThanOrEqual(2);
  expect(seen.scheduler).toBeLessThanOrEqual(4);
  expect(await connections("web")).toBeGreaterThanOrEqual(1);
  expect(await connections("scheduler")).toBeGreaterThanOrEqual(2);
});

test("the limits of a worker's session are given in bytes and seconds, by the names of their options", () => {
  const { config, warnings } = readConfig({
    GRADIENT_NAR_STORAGE_OPEN_TIMEOUT_SECS: "7",
    GRADIENT_NAR_SEND_CHUNK_TIMEOUT_SECS: "8",
    GRADIENT_MAX_CONCURRENT_NAR_SERVES: "9",
    GRADIENT_MAX_NAR_BUFFER_BYTES: "10485760",
  });

  expect(warnings).toEqual([]);
  expect(config.workers).toMatchObject({
    narOpenTimeoutMs: 7_000,
    narSendTimeoutMs: 8_000,
    narServesMax: 9,
    narBufferBytesMax: 10_485_760,
  });
});
