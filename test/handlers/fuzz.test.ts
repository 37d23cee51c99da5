import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PASSWORD, type TestApp, type TestUser, withApp } from "./support.ts";

/** For each route. A request is a statement or two. */
const RUNS = 60;

const WORKER = "550e8400-e29b-41d4-a716-446655440001";
/** Each route with a body that it takes: what is changed in it reaches as far as it can. */
const ROUTES: readonly [method: string, path: string, body: object][] = [
  ["POST", "/auth/basic/register", { username: "Someone", name: "S", email: "s@example.com", password: PASSWORD }],
  ["POST", "/auth/basic/login", { loginname: "Fuzzer", password: "wrong", remember_me: true }],
  ["POST", "/auth/check-username", { username: "Someone" }],
  ["POST", "/auth/resend-verification", { username: "Someone" }],
  ["POST", "/auth/password-reset", { loginname: "Someone" }],
  ["POST", "/auth/password-reset/confirm", { token: "0".repeat(64), password: PASSWORD }],
  ["POST", "/auth/cli/poll", { device_code: "x" }],
  ["POST", "/auth/cli/authorize", { user_code: "ABCD-2345" }],
  ["PATCH", "/user/settings", { name: "Fuzzer", email: "fuzzer@example.com" }],
  ["POST", "/user/password", { current_password: "wrong", new_password: PASSWORD }],
  ["DELETE", "/user", { password: "wrong", confirm_username: "x" }],
  ["POST", "/user/keys", { name: "k", permissions: ["viewOrg"], expires_in_days: 1, organization: "target" }],
  ["POST", "/user/keys", { name: "c", permissions: ["viewCache"], cache: "target", allowed_ips: ["10.0.0.1"] }],
  ["DELETE", "/user/keys", { name: "k" }],
  ["PUT", "/orgs", { name: "other", display_name: "O", description: "d", public: true }],
  ["PATCH", "/orgs/target", { display_name: "T", description: "d", hide_build_requests: false }],
  ["POST", "/orgs/target/users", { user: "Fuzzer", role: "Admin" }],
  ["PATCH", "/orgs/target/users", { user: "Fuzzer", role: "Admin" }],
  ["POST", "/orgs/target/subscribe/target", { mode: "ReadWrite" }],
  ["POST", "/orgs/target/workers", { worker_id: WORKER, display_name: "W", url: "ws://host/", token: "x" }],
  ["PATCH", `/orgs/target/workers/${WORKER}`, { active: true, display_name: "W", enable_build: true }],
  ["PUT", "/caches", { name: "other", display_name: "O", description: "d", priority: 1, max_storage_gb: 0 }],
  ["PATCH", "/caches/target", { display_name: "T", description: "d", priority: 1, local_priority: 2 }],
];

let t: TestApp;
let user: TestUser;
beforeAll(async () => {
  t = await withApp({ mail: { verificationRequired: true } });
  user = await t.user("Fuzzer");
  for (const path of ["/orgs", "/caches"]) {
    await t.ask("PUT", path, { token: user.token, body: { name: "target", display_name: "Target" } });
  }
  await t.ask("POST", "/orgs/target/workers", { token: user.token, body: { worker_id: WORKER } });
});
afterAll(() => t[Symbol.asyncDispose]());

const likely = fc.constantFrom<unknown>("target", "Ab1!xyzW", "10.0.0.0/8", "viewOrg", true, null, 0, 2 ** 31, 1e308);
const hostile = fc.constantFrom("\0", "a\u0000b", "\ud800", "𝒳", "ﬀ", "x".repeat(12_000));
const text = fc.oneof(fc.string({ unit: "binary" }), hostile);
const value = fc.oneof(text, likely, fc.array(fc.oneof(text, likely)), fc.anything(), fc.double());

test("no body makes a server error, and every answer is in the envelope", async () => {
  for (const [method, path, valid] of ROUTES) {
    const fields = fc.constantFrom(...Object.keys(valid), "__proto__");
    const changed = fc.dictionary(fields, value, { minKeys: 1, maxKeys: 2 });
    const body = fc.oneof(
      { weight: 9, arbitrary: changed.map((some) => stringify({ ...valid, ...some })) },
      fc.string(),
    );
    await fc.assert(
      fc.asyncProperty(body, async (sent) => {
        const { status, body: answer } = await t.ask(method, path, { token: user.token, body: sent });
        expect(status).toBeLessThan(500);
        expect(typeof answer.error).toBe("boolean");
      }),
      { numRuns: RUNS },
    );
  }
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
    { numRuns: 3 * RUNS },
  );
  for (const path of ["/orgs/%", "/orgs/%ff", "/orgs/%00", "/orgs/available?name=%00"]) {
    expect([path, (await t.ask("GET", path, { token: user.token })).status]).toEqual([path, expect.any(Number)]);
    expect((await t.ask("GET", path, { token: user.token })).status).toBeLessThan(500);
  }
});

function stringify(fields: Record<string, unknown>): string {
  return JSON.stringify(fields, (_, inner) => (typeof inner === "bigint" ? Number(inner) : inner));
}
