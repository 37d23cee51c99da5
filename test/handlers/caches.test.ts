import { afterAll, beforeAll, expect, test } from "vitest";
import { formatPublicKey, publicKeyOf } from "#core/nix/signature.ts";
import { openCacheKey } from "#core/services/cache-key.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let owner: TestUser;
let colleague: TestUser;
let stranger: TestUser;
beforeAll(async () => {
  t = await withApp();
  owner = await t.user("Owner");
  colleague = await t.user("Colleague");
  stranger = await t.user("Stranger");
  await create("/caches", "private-cache");
  await create("/orgs", "team");
  await t.ask("POST", "/orgs/team/users", { token: owner.token, body: { user: "Colleague", role: "Write" } });
});
afterAll(() => t[Symbol.asyncDispose]());

async function create(path: string, name: string, more: object = {}): Promise<string> {
  const answer = await t.ask("PUT", path, { token: owner.token, body: { name, display_name: "A name", ...more } });
  expect([name, answer.status]).toEqual([name, 200]);
  return answer.body.message;
}

test("a cache comes with a signing key of its own, named after the server, whose secret half is sealed", async () => {
  const id = await create("/caches", "main", { priority: 30, local_priority: 5, max_storage_gb: 7, description: "d" });
  const { body } = await t.ask("GET", "/caches/main", { token: owner.token });
  expect(body.message).toMatchObject({
    id,
    name: "main",
    active: true,
    public: false,
    priority: 30,
    local_priority: 5,
    max_storage_gb: 7,
    public_key: expect.stringMatching(/^ci\.example\.com-main:[A-Za-z0-9+/]{43}=$/),
    can_edit: true,
  });
  const publicKey: string = (await t.ask("GET", "/caches/main/public-key", { token: owner.token })).body.message;
  const row = await t.db.selectFrom("cache_key").selectAll().where("cache_id", "=", id).executeTakeFirstOrThrow();
  expect(Buffer.from(row.secret_key).toString("latin1")).not.toContain("ci.example.com");
  expect(formatPublicKey(publicKeyOf(await openCacheKey(t.deps, row)))).toBe(publicKey);
});

test("what one may not see is, byte for byte, what does not exist; an internal store is nobody's", async () => {
  const requests: [string, string, unknown?][] = [
    ["GET", ""],
    ["GET", "/public-key"],
    ["PATCH", "", { description: "x" }],
    ["DELETE", ""],
    ["POST", "/active"],
    ["DELETE", "/public"],
  ];
  for (const [method, path, body] of requests) {
    const options = { token: stranger.token, ...(body === undefined ? {} : { body }) };
    const forbidden = await t.ask(method, `/caches/private-cache${path}`, options);
    const unknown = await t.ask(method, `/caches/unknown${path}`, options);
    expect([method, path, forbidden.status, forbidden.text]).toEqual([method, path, 404, unknown.text]);
  }
  expect((await t.ask("GET", "/caches/private-cache")).text).toBe((await t.ask("GET", "/caches/unknown")).text);
  for (const name of ["null", "internal", "team-internal"]) {
    expect((await t.ask("GET", `/caches/${name}`, { token: owner.token })).status).toBe(404);
  }
});

test("an organization's subscription opens a cache to its members for reading; both sides must agree", async () => {
  const path = "/orgs/team/subscribe/private-cache";
  expect((await t.ask("GET", "/caches/private-cache", { token: colleague.token })).status).toBe(404);
  expect((await t.ask("POST", path, { token: colleague.token })).status).toBe(404);
  expect((await t.ask("POST", path, { token: owner.token, body: { mode: "Sometimes" } })).body.code).toBe("validation");
  expect((await t.ask("POST", path, { token: owner.token, body: { mode: "read_only" } })).status).toBe(200);
  expect((await t.ask("POST", path, { token: owner.token })).body.code).toBe("already_exists");
  expect((await t.ask("GET", "/orgs/team/subscribe", { token: colleague.token })).body.message).toMatchObject([
    { name: "private-cache", mode: "ReadOnly" },
  ]);

  const seen = await t.ask("GET", "/caches/private-cache", { token: colleague.token });
  expect(seen.body.message).toMatchObject({ name: "private-cache", can_edit: false });
  const listed = await t.ask("GET", "/caches", { token: colleague.token });
  expect(listed.body.message).toMatchObject({ total: 1, items: [{ name: "private-cache" }] });
  const change = await t.ask("PATCH", "/caches/private-cache", { token: colleague.token, body: { description: "x" } });
  expect(change.body.code).toBe("forbidden");

  expect((await t.ask("DELETE", path, { token: owner.token })).status).toBe(200);
  expect((await t.ask("DELETE", path, { token: owner.token })).body.code).toBe("bad_request");
  expect((await t.ask("GET", "/caches/private-cache", { token: colleague.token })).status).toBe(404);
});

test("a public cache is read by everyone and changed by its admins, and its servers learn of each change", async () => {
  const id = await create("/caches", "open-cache", { public: true });
  expect((await t.ask("GET", "/caches/open-cache")).body.message).toMatchObject({ public: true, can_edit: false });
  expect((await t.ask("GET", "/caches/public")).body.message).toMatchObject([{ name: "open-cache" }]);
  expect((await t.ask("DELETE", "/caches/open-cache", { token: stranger.token })).status).toBe(404);
  t.notified.length = 0;
  expect((await t.ask("DELETE", "/caches/open-cache/active", { token: owner.token })).status).toBe(200);
  expect((await t.ask("DELETE", "/caches/open-cache/public", { token: owner.token })).status).toBe(200);
  expect(t.notified).toEqual([`path ${id}/`, `path ${id}/`]);
  expect((await t.ask("GET", "/caches/open-cache", { token: owner.token })).body.message).toMatchObject({
    active: false,
    public: false,
  });
});

test("a cache is changed and deleted; its signing key keeps its name", async () => {
  await create("/caches", "first-name");
  const token = owner.token;
  expect((await t.ask("PATCH", "/caches/first-name", { token, body: { local_priority: null } })).body.code).toBe(
    "validation",
  );
  expect((await t.ask("PATCH", "/caches/first-name", { token, body: { name: "private-cache" } })).body.code).toBe(
    "already_exists",
  );
  expect((await t.ask("PATCH", "/caches/first-name", { token, body: { priority: -1 } })).body.code).toBe("validation");
  expect(
    (await t.ask("PATCH", "/caches/first-name", { token, body: { name: "second-name", priority: 1 } })).status,
  ).toBe(200);
  expect((await t.ask("GET", "/caches/second-name/public-key", { token })).body.message).toMatch(/-first-name:/);
  expect((await t.ask("DELETE", "/caches/second-name", { token })).status).toBe(200);
  expect((await t.ask("GET", "/caches/available?name=second-name", { token })).body.message).toBe(true);
  expect((await t.ask("GET", "/caches/available?name=private-cache", { token })).body.message).toBe(false);
});

test("who may create caches is the operator's choice", async () => {
  await using none = await withApp({ createCache: "none" });
  const { token } = await none.user("Someone");
  const answer = await none.ask("PUT", "/caches", { token, body: { name: "c", display_name: "C" } });
  expect(answer.body.code).toBe("creation_disabled");
});
