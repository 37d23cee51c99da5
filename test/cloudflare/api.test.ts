import { afterAll, beforeAll, expect, test, vi } from "vitest";
import worker from "#runtime/cloudflare/index.ts";
import { makePerson } from "#test/cache/actors.ts";
import { newId } from "#test/cache/support.ts";
import { withApp } from "#test/handlers/support.ts";
import { type EdgeBench, SERVE_URL, withEdge } from "./support.ts";

let edge: EdgeBench;

beforeAll(async () => {
  edge = await withEdge({ by: "secret" });
});
afterAll(() => edge?.[Symbol.asyncDispose]());

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly body: { readonly error: boolean; readonly code?: string; readonly message: unknown };
}

async function ask(method: string, path: string, token?: string): Promise<Answer> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const response = await edge.ask(path, { method, headers });
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  return { status: response.status, text, body: isJson && text !== "" ? JSON.parse(text) : null };
}

test("what everybody may read is read here as on a server", async () => {
  const cache = await edge.bench.makeCache();

  expect((await ask("GET", "/api/v1/health")).body).toEqual({ error: false, message: "200 ALIVE" });
  expect((await ask("GET", "/api/v1/caches/public")).body.message).toEqual([
    expect.objectContaining({ name: cache.name, public_key: cache.publicKey }),
  ]);
  expect((await ask("GET", `/api/v1/caches/${cache.name}/public-key`)).body.message).toBe(cache.publicKey);
  const head = await ask("HEAD", `/api/v1/caches/${cache.name}`);
  expect([head.status, head.text]).toEqual([200, ""]);
});

test("what an actor may not see looks as what is not there, and opens with a session or a key", async () => {
  const hidden = await edge.bench.makeCache({ public: false });
  const owner = await edge.reader("ada", hidden);

  const refused = await ask("GET", `/api/v1/caches/${hidden.name}`);
  const absent = await ask("GET", "/api/v1/caches/no-such-cache");
  expect([refused.status, refused.text]).toEqual([absent.status, absent.text]);
  expect((await ask("GET", `/api/v1/caches/${hidden.name}`, owner.session)).body.message).toMatchObject({
    name: hidden.name,
  });
  expect((await ask("GET", "/api/v1/user", await owner.key())).body.message).toMatchObject({ username: "ada" });
});

test.each([
  ["POST", "/api/v1/user/keys"],
  ["PUT", "/api/v1/caches"],
  ["PATCH", "/api/v1/orgs/acme"],
  ["DELETE", "/api/v1/user/keys"],
  ["POST", "/api/v1/no-such-route"],
])("%s %s is refused with the address that takes it", async (method, path) => {
  const { status, body } = await ask(method, path);
  expect(status).toBe(405);
  expect(body).toEqual({ error: true, code: "method_not_allowed", message: expect.stringContaining(SERVE_URL) });
});

test.each([
  "/proto",
  "/hooks/github/acme",
  "/metrics",
  "/api/v1/auth/verify-email",
  "/api/v1/%61uth/verify-email",
  "/api/v1/evals/01a202b4-8d63-7f40-ae19-21f292439643/live",
  "/api/v1/caches/main/retention/preview",
  `/api/v1/caches/main/nars/${"0".repeat(32)}/why`,
])("%s is only on servers, and says so", async (path) => {
  const { status, body } = await ask("GET", path);
  expect(status).toBe(503);
  expect(body).toEqual({ error: true, code: "service_unavailable", message: expect.stringContaining(SERVE_URL) });
});

test("every route that is read answers, or says where it does", async () => {
  const cache = await edge.bench.makeCache();
  const reader = await edge.reader("grace", cache);
  const operator = await makePerson(edge.bench, "root", { superuser: true });
  await using server = await withApp();
  const paths = new Set(
    server.app.routes.flatMap(({ method, path }) => (method === "GET" && path.includes("/v1/") ? path : [])),
  );
  expect(paths.size).toBeGreaterThan(50);

  for (const path of paths) {
    const named = path.replace(/:cache\b/, cache.name).replace(/:hash\b/, "0".repeat(32));
    const filled = named.replace(/:\w*(?:id|worker)\b/g, newId()).replace(/:\w+(?:\{[^}]*\})?/g, "main");
    const { session } = /^\/api\/v1\/(?:admin|board)/.test(path) ? operator : reader;
    const { status, text } = await ask("GET", filled, session);
    expect([200, 400, 403, 404].includes(status) || (status === 503 && text.includes(SERVE_URL)), filled).toBe(true);
  }
});

test("an address that leads nowhere is a 404 of the same form", async () => {
  expect((await ask("GET", "/api/v1/no-such-route")).body).toMatchObject({ error: true, code: "not_found" });
  expect((await ask("GET", "/")).status).toBe(404);
});

test("requests at one time do not take each other's connections, and give them all back", async () => {
  const cache = await edge.bench.makeCache();
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask("GET", `/api/v1/caches/${cache.name}`)));

  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  await expect.poll(() => edge.database.open.size).toBe(0);
  expect(edge.workerd.logged.filter((line) => /error|Uncaught|rejection/i.test(line))).toEqual([]);
});

test("a Worker that is not set up says so to clients, and to its log what is missing", async () => {
  const written = vi.spyOn(console, "error").mockReturnValue();
  const response = await worker.fetch(new Request("https://cache.example.org/"), {}, { waitUntil: () => {} });

  expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([503, "service_unavailable"]);
  expect(JSON.parse(written.mock.calls[0]?.[0]).problems).toContainEqual(expect.stringMatching(/^STORAGE: bind/));
});

test("the bundle asks for no modules of Node's but ours and those of PostgreSQL's client", () => {
  const [ours, drivers] = [
    ["crypto", "stream", "zlib"],
    ["dns", "events", "fs", "net", "path", "string_decoder", "tls"],
  ];
  expect(edge.nodeModules).toEqual([...ours, ...drivers, "util", "util/types"].sort());
});
