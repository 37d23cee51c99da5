import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestApp, type TestUser, withApp } from "./support.ts";

/** Each request is one statement or two; a run of this many takes about a second. */
const RUNS = 400;

const FIELDS = [
  ...["name", "username", "display_name", "description", "email", "password", "loginname", "remember_me", "user"],
  ...["role", "mode", "permissions", "allowed_ips", "expires_in_days", "organization", "cache", "priority", "public"],
  ...["local_priority", "max_storage_gb", "worker_id", "token", "url", "active", "enable_build", "__proto__"],
];
const ROUTES: readonly [string, string][] = [
  ...(["register", "login"] as const).map((name): [string, string] => ["POST", `/auth/basic/${name}`]),
  ["POST", "/auth/check-username"],
  ["POST", "/user/keys"],
  ["DELETE", "/user/keys"],
  ["PATCH", "/user/keys/00000000-0000-7000-8000-000000000000"],
  ["PUT", "/orgs"],
  ["PATCH", "/orgs/target"],
  ["POST", "/orgs/target/users"],
  ["PATCH", "/orgs/target/users"],
  ["POST", "/orgs/target/subscribe/target"],
  ["POST", "/orgs/target/workers"],
  ["PATCH", "/orgs/target/workers/550e8400-e29b-41d4-a716-446655440001"],
  ["PUT", "/caches"],
  ["PATCH", "/caches/target"],
];

let t: TestApp;
let user: TestUser;
beforeAll(async () => {
  t = await withApp();
  user = await t.user("Fuzzer");
  for (const path of ["/orgs", "/caches"]) {
    await t.ask("PUT", path, { token: user.token, body: { name: "target", display_name: "Target" } });
  }
  const worker_id = "550e8400-e29b-41d4-a716-446655440001";
  await t.ask("POST", "/orgs/target/workers", { token: user.token, body: { worker_id } });
});
afterAll(() => t[Symbol.asyncDispose]());

const likely = fc.constantFrom<unknown>(
  "target",
  "a-b",
  "Ab1!xyzW",
  "a@b.c",
  "10.0.0.0/8",
  "viewOrg",
  true,
  null,
  0,
  1e308,
);
const text = fc.oneof(fc.string({ unit: "binary" }), fc.string(), fc.constantFrom("\0", "\ud800", "a\u0000", "𝒳", "ﬀ"));
const value = fc.oneof(likely, text, fc.array(fc.oneof(text, likely)), fc.anything(), fc.integer(), fc.double());
const body = fc.oneof(
  { weight: 9, arbitrary: fc.dictionary(fc.constantFrom(...FIELDS), value).map((fields) => stringify(fields)) },
  { weight: 1, arbitrary: fc.string() },
);

test("no body makes a server error, and every answer is in the envelope", async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...ROUTES), body, async ([method, path], sent) => {
      const { status, body: answer } = await t.ask(method, path, { token: user.token, body: sent });
      expect(status).toBeLessThan(500);
      expect(typeof answer.error).toBe("boolean");
    }),
    { numRuns: RUNS },
  );
});

test("no path, query or credential makes a server error", async () => {
  const paths = fc.constantFrom(
    "/orgs/",
    "/caches/",
    "/orgs/available?name=",
    "/orgs?page=",
    "/user/keys/",
    "/orgs/target/",
  );
  await fc.assert(
    fc.asyncProperty(paths, text, fc.string(), async (path, word, credential) => {
      const encoded = encodeURIComponent(word.toWellFormed());
      const headers = { authorization: `Bearer ${encodeURIComponent(credential)}` };
      expect((await t.ask("GET", `${path}${encoded}`, { token: user.token })).status).toBeLessThan(500);
      expect((await t.ask("GET", `${path}${encoded}`, { headers })).status).toBeLessThan(500);
    }),
    { numRuns: RUNS / 2 },
  );
  for (const path of ["/orgs/%", "/orgs/%ff", "/orgs/%00", "/orgs/available?name=%00"]) {
    expect([path, (await t.ask("GET", path, { token: user.token })).status]).toEqual([path, expect.any(Number)]);
    expect((await t.ask("GET", path, { token: user.token })).status).toBeLessThan(500);
  }
});

function stringify(fields: Record<string, unknown>): string {
  return JSON.stringify(fields, (_, inner) => (typeof inner === "bigint" ? Number(inner) : inner));
}
