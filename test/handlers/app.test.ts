import { afterAll, beforeAll, expect, test } from "vitest";
import { type TestApp, withApp } from "./support.ts";

let t: TestApp;
beforeAll(async () => {
  t = await withApp();
});
afterAll(() => t[Symbol.asyncDispose]());

test("the server says that it is alive and how it is set up, to everyone", async () => {
  expect((await t.ask("GET", "/health")).text).toBe('{"error":false,"message":"200 ALIVE"}');
  expect((await t.ask("GET", "/config")).body.message).toEqual({
    version: "0.0.0-test",
    oidc_enabled: false,
    oidc_required: false,
    oidc_icon_url: null,
    registration_enabled: true,
    email_verification_enabled: false,
    smtp_enabled: false,
    quic: false,
    create_org: "everyone",
    create_cache: "everyone",
  });
});

test("every failure is in the envelope, from a missing route to a body that is too large or no JSON", async () => {
  const user = await t.user("envelope");
  const token = user.token;
  const key = { name: "k", permissions: ["viewOrg"] };
  const cases: [Promise<{ status: number; text: string; body: { code?: string } }>, number, string][] = [
    [t.ask("GET", "/nothing-here"), 404, "not_found"],
    [t.ask("PUT", "/health"), 405, "method_not_allowed"],
    [t.ask("POST", "/user/keys", { token, body: "{" }), 400, "bad_request"],
    [t.ask("POST", "/user/keys", { token, body: "[]" }), 400, "validation"],
    [t.ask("POST", "/user/keys", { token, body: "null" }), 400, "validation"],
    [t.ask("POST", "/user/keys", { token, body: { ...key, name: 7 } }), 400, "validation"],
    [t.ask("POST", "/user/keys", { token, body: { ...key, name: "a\u0000b" } }), 400, "validation"],
    [
      t.ask("POST", "/user/keys", { token, body: key, headers: { "content-type": "text/plain" } }),
      415,
      "unsupported_media_type",
    ],
    [t.ask("POST", "/user/keys/not-a-uuid/revoke", { token }), 400, "validation"],
    [t.ask("GET", "/orgs?page=x", { token }), 400, "validation"],
    [t.ask("POST", "/user/keys", { token, body: { ...key, name: "x".repeat(70_000) } }), 413, "payload_too_large"],
    [t.ask("GET", "/user"), 401, "unauthorized"],
  ];
  for (const [answer, status, code] of cases) {
    const { status: seen, body, text } = await answer;
    expect([seen, body.code, text]).toEqual([status, code, expect.stringContaining('{"error":true,')]);
  }
});

test("a body that announces itself as too large is refused before anyone is asked for credentials", async () => {
  const announced = { headers: { "content-length": "65537" } };
  expect((await t.ask("POST", "/orgs/any/ssh", announced)).body.code).toBe("payload_too_large");
  expect((await t.ask("POST", "/orgs/any/ssh", { headers: { "content-length": "65536" } })).status).toBe(401);
});

test("a body that hides its length is cut off at the same limit", async () => {
  const { token } = await t.user("streamer");
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => {
      sent += 16_384;
      controller.enqueue(new Uint8Array(16_384).fill(32));
    },
  });
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const init: RequestInit = { method: "POST", headers, body, duplex: "half" };
  const response = await t.app.request(new Request("http://127.0.0.1/api/v1/user/keys", init));
  expect(response.status).toBe(413);
  expect(sent).toBeLessThan(64 * 1024 * 3);
});

test("an id in a path that is no UUID is told from one that is unknown, whatever it is of", async () => {
  const { token } = await t.user("mistyped");
  const project = "/projects/any/any";
  const cases: ["GET" | "PATCH" | "DELETE" | "POST", string, object?][] = [
    ["GET", `${project}/triggers/zz`],
    ["PATCH", `${project}/triggers/zz`, {}],
    ["DELETE", `${project}/triggers/zz`],
    ["POST", `${project}/triggers/zz/test`],
    ["GET", `${project}/flake-inputs/zz`],
    ["PATCH", `${project}/flake-inputs/zz`, {}],
    ["DELETE", `${project}/flake-inputs/zz`],
    ["GET", `${project}/actions/zz`],
    ["PATCH", `${project}/actions/zz`, {}],
    ["DELETE", `${project}/actions/zz`],
    ["POST", `${project}/actions/zz/test`],
    ["POST", `${project}/actions/zz/regenerate-token`],
    ["GET", `${project}/actions/zz/deliveries`],
    ["GET", `${project}/actions/${crypto.randomUUID()}/deliveries/zz`],
    ["PATCH", "/caches/any/upstreams/zz", {}],
    ["DELETE", "/caches/any/upstreams/zz"],
  ];
  for (const [method, path, body] of cases) {
    const answer = await t.ask(method, path, { token, body });
    expect([method, path, answer.status, answer.body.message]).toEqual([
      method,
      path,
      400,
      expect.stringContaining("must be a UUID"),
    ]);
  }
});

test("a list where fields belong changes nothing and begins nothing", async () => {
  const { token } = await t.user("lister");
  for (const [method, path] of [
    ["PATCH", "/user/settings"],
    ["POST", "/projects/any/any/evaluate"],
  ] as const) {
    const answer = await t.ask(method, path, { token, body: "[1]" });
    expect([path, answer.status, answer.body.message]).toEqual([path, 400, "body: expected Object but received Array"]);
  }
});

test("a validation message names the field, what was wrong and what is allowed", async () => {
  const { token } = await t.user("reader");
  const wrong = { name: "k", permissions: [], expires_in_days: 0 };
  const { body } = await t.ask("POST", "/user/keys", { token, body: wrong });
  expect(body.message).toContain("permissions: must name at least one permission");
  expect(body.message).toContain("expires_in_days: must be a whole number from 1 to 3650");
  expect((await t.ask("POST", "/auth/basic/login", { body: { loginname: "x" } })).body.message).toBe(
    "password: is missing",
  );
  expect((await t.ask("GET", "/orgs?page=9999999999", { token })).body.message).toContain("at most nine digits");
});

test("an unexpected error says nothing of its cause", async () => {
  const broken = await withApp();
  await broken.db.schema.dropTable("session").execute();
  const { token } = { token: await t.user("victim").then((user) => user.token) };
  const { status, text } = await broken.ask("GET", "/user", { token });
  expect(status).toBe(500);
  expect(text).toContain('"code":"internal"');
  expect(text).not.toMatch(/session|relation|select/i);
  await broken[Symbol.asyncDispose]();
});

test("a request's id is echoed when it is harmless and made otherwise, on failures too", async () => {
  const given = await t.ask("GET", "/health", { headers: { "x-request-id": "abc-123" } });
  expect(given.headers.get("x-request-id")).toBe("abc-123");
  const hostile = await t.ask("GET", "/nothing", { headers: { "x-request-id": "a b {}" } });
  expect(hostile.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
});

test("answers that depend on who asks are kept by nobody, and a refusal names the scheme to use", async () => {
  const refused = await t.ask("GET", "/user");
  expect(refused.headers.get("cache-control")).toBe("no-store");
  expect(refused.headers.get("www-authenticate")).toBe("Bearer");
  const { token } = await t.user("cached");
  expect((await t.ask("GET", "/user", { token })).headers.get("cache-control")).toBe("no-store");
});
