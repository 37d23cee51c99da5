import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { insertCache } from "#core/db/caches.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { type RunningServer, startServer } from "#runtime/node/server.ts";
import { type TestDatabase, withDatabase } from "#test/support/database.ts";
import { newId } from "#test/support/rows.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";

const LOGIN = { method: "POST", body: JSON.stringify({ loginname: "nobody", password: "nothing" }) };

let folder: TemporaryFolder;
let database: TestDatabase;
let server: RunningServer;
let logged: Record<string, unknown>[];
beforeAll(async () => {
  folder = await withTemporaryFolder();
  database = await withDatabase();
  const keys = { public_key: "", secret_key: new Uint8Array() };
  const shown = { display_name: "", description: "", public: true, priority: 40, local_priority: 10 };
  await insertCache(database.db, { id: newId(), name: "main", ...shown, ...keys });
  server = await start({
    GRADIENT_TRUSTED_PROXIES: "127.0.0.1/32",
    GRADIENT_LOCAL_IPS: "192.168.0.0/16",
    GRADIENT_MAX_REQUEST_SIZE: "2048",
    GRADIENT_LOG_LEVEL: "error",
    GRADIENT_WEB_LOG_LEVEL: "debug",
  });
});
afterAll(async () => {
  await server.close();
  await database[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

async function start(options: Record<string, string>): Promise<RunningServer> {
  const { config } = readConfig({ GRADIENT_BASE_PATH: join(folder.path, "base"), GRADIENT_PORT: "0", ...options });
  const secret = new TextEncoder().encode("s".repeat(48));
  const given = { database: { ...config.database, url: database.url }, secrets: { jwt: secret, crypt: secret } };
  logged = [];
  const write = (line: string) => void logged.push(JSON.parse(line));
  return await startServer({ ...config, ...given }, createLoggers(config.logLevels, { write }));
}

function ask(path: string, { headers = {}, ...init }: RequestInit & { headers?: Record<string, string> } = {}) {
  return fetch(`${server.url}${path}`, { ...init, headers: { "content-type": "application/json", ...headers } });
}

const from = (client: string) => ({ "x-forwarded-for": client });

test("GRADIENT_LOCAL_IPS: clients in these networks are shown the cache's local priority, and no others", async () => {
  const priorityFor = async (client: string) =>
    /^Priority: (\d+)$/m.exec(await (await ask("/cache/main/nix-cache-info", { headers: from(client) })).text())?.[1];

  expect(await priorityFor("192.168.3.4")).toBe("10");
  expect(await priorityFor("10.0.0.4")).toBe("40");
  expect(await priorityFor("203.0.113.1, 192.168.3.4")).toBe("10");
  expect(await priorityFor("192.168.3.4, 203.0.113.1")).toBe("40");
});

test("GRADIENT_MAX_REQUEST_SIZE: what is larger is refused, with and without a word of its size", async () => {
  const body = JSON.stringify({ loginname: "x".repeat(3_000), password: "x" });

  const announced = await ask("/api/v1/auth/basic/login", { method: "POST", body, headers: from("203.0.113.20") });
  expect([announced.status, await announced.json()]).toEqual([
    413,
    {
      error: true,
      code: "payload_too_large",
      message: "The request body is larger than the 2048 bytes that are allowed here",
    },
  ]);
  const { port } = new URL(server.url);
  const headers = { "content-type": "application/json", "transfer-encoding": "chunked", ...from("203.0.113.21") };
  const hidden = request({ host: "127.0.0.1", port, path: "/api/v1/auth/basic/login", method: "POST", headers });
  const answered = new Promise<string>((resolve, reject) => {
    hidden.on("response", (response) => resolve(text(response)));
    hidden.on("error", reject);
  });
  hidden.end(body);
  expect(await answered).toContain("payload_too_large");
});

test("guesses from one address are refused whatever it says, and a proxy's clients are told apart", async () => {
  const guess = async (headers: Record<string, string>) =>
    (await ask("/api/v1/auth/basic/login", { ...LOGIN, headers })).status;
  const guesses = async (name: (i: number) => string) => {
    const statuses: number[] = [];
    for (let i = 0; i < 8; i++) statuses.push(await guess(from(name(i))));
    return statuses.filter((status) => status === 429).length;
  };

  expect(await guesses((i) => `198.51.100.${i}`)).toBe(0);
  expect(await guesses(() => "203.0.113.30")).toBeGreaterThan(0);
  // What stands before the address that the proxy saw is the client's own invention.
  expect(await guesses((i) => `198.51.100.${i}, 203.0.113.31`)).toBeGreaterThan(0);
});

test("who resets its connection is not taken for a program of this machine, whose word is believed", async () => {
  const body = JSON.stringify({ loginname: "nobody", password: "nothing" });
  const { port } = new URL(server.url);
  const head = [
    "POST /api/v1/auth/basic/login HTTP/1.1",
    "Host: x",
    "User-Agent: resetting",
    "Content-Type: application/json",
    `Content-Length: ${body.length}`,
    "X-Forwarded-For: 198.51.100.77",
  ];
  // Not the address of the proxy that is trusted.
  const socket = connect({ port: Number(port), host: "127.0.0.1", localAddress: "127.0.0.2" }, () => {
    socket.write(`${head.join("\r\n")}\r\n\r\n${body}`, () => socket.resetAndDestroy());
  });
  socket.on("error", () => {});

  const recorded = async () => {
    const rows = await database.db
      .selectFrom("audit_event")
      .select("ip")
      .where("user_agent", "=", "resetting")
      .execute();
    return rows.map(({ ip }) => ip);
  };
  await expect.poll(recorded, { timeout: 20_000 }).toHaveLength(1);
  expect(["127.0.0.2", "0.0.0.0"]).toContain((await recorded())[0]);
});

test("GRADIENT_RATE_LIMITS=false leaves the pace to whoever stands in front", async () => {
  await server.close();
  server = await start({ GRADIENT_RATE_LIMITS: "false" });

  for (let i = 0; i < 10; i++) expect((await ask("/api/v1/auth/basic/login", { ...LOGIN })).status).toBe(401);
});

test("GRADIENT_WEB_LOG_LEVEL: one part says more than GRADIENT_LOG_LEVEL, with the answer's id", async () => {
  await server.close();
  server = await start({ GRADIENT_LOG_LEVEL: "error", GRADIENT_WEB_LOG_LEVEL: "debug" });

  const answer = await ask("/api/v1/health?token=t0psecret", { headers: { "x-request-id": "my-request" } });

  expect(answer.headers.get("x-request-id")).toBe("my-request");
  const line = logged.find(({ message }) => message === "request answered");
  expect(line).toMatchObject({
    level: "debug",
    part: "web",
    path: "/api/v1/health",
    status: 200,
    requestId: "my-request",
  });
  expect(logged.filter(({ part, level }) => part !== "web" && level !== "error")).toEqual([]);
  expect(JSON.stringify(logged)).not.toContain("t0psecret");
});

test("a page of somebody else opens no socket to /proto, and nobody opens them by the hundred", async () => {
  const upgrade = (headers: Record<string, string>) =>
    new Promise<number>((resolve, reject) => {
      const { port } = new URL(server.url);
      const asked = request({
        host: "127.0.0.1",
        port,
        path: "/proto",
        agent: false,
        headers: {
          connection: "Upgrade",
          upgrade: "websocket",
          "sec-websocket-version": "13",
          "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
          ...headers,
        },
      });
      asked.on("upgrade", (_response, socket) => {
        socket.destroy();
        resolve(101);
      });
      asked.on("response", ({ statusCode }) => resolve(statusCode ?? 0));
      asked.on("error", reject);
      asked.end();
    });

  expect(await upgrade({ origin: "https://evil.example" })).toBe(403);
  expect(await upgrade({})).toBe(101);
  expect(await upgrade({ origin: server.url })).toBe(403);
  const opened: number[] = [];
  for (let i = 0; i < 200 && !opened.includes(429); i++) opened.push(await upgrade(from("203.0.113.41")));
  expect(opened).toContain(429);
});
