import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { KeyView } from "#core/api/keys.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let owner: TestUser;
beforeAll(async () => {
  t = await withApp();
  owner = await t.user("Owner");
  for (const name of ["red", "blue"]) {
    await t.ask("PUT", "/orgs", { token: owner.token, body: { name, display_name: name } });
    await t.ask("PUT", "/caches", { token: owner.token, body: { name: `${name}-cache`, display_name: name } });
  }
});
afterAll(() => t[Symbol.asyncDispose]());

let counter = 0;
async function makeKey(body: object, user = owner): Promise<string> {
  const answer = await t.ask("POST", "/user/keys", { token: user.token, body: { name: `key ${++counter}`, ...body } });
  expect(answer.text).toContain('"error":false');
  return answer.body.message;
}

async function keys(): Promise<KeyView[]> {
  return (await t.ask("GET", "/user/keys", { token: owner.token })).body.message;
}

test("a key is shown once, is kept as a hash, and works with either prefix", async () => {
  const key = await makeKey({ name: "deploy", permissions: ["viewOrg", "editProject"], expires_in_days: 2 });
  expect(key).toMatch(/^GRAD[A-Za-z0-9]{64}$/);
  const listed = await t.ask("GET", "/user/keys", { token: owner.token });
  expect(listed.text).not.toContain(key.slice(4));
  expect((await keys()).find(({ name }) => name === "deploy")).toMatchObject({
    managed: false,
    permissions: ["viewOrg", "editProject"],
    organization: null,
    cache: null,
    last_used_at: null,
    created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/),
    revoked_at: null,
    allowed_ips: [],
  });
  const stored = await sql<{ hash: string }>`
    select encode(token_hash, 'hex') as hash from api_key where name = 'deploy'`.execute(t.db);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key.slice(4)));
  expect(stored.rows[0]?.hash).toBe(Buffer.from(digest).toString("hex"));

  for (const token of [key, `grd_${key.slice(4)}`]) expect((await t.ask("GET", "/user", { token })).status).toBe(200);
  expect((await t.ask("GET", "/user", { token: key.slice(4) })).status).toBe(401);
  expect((await keys()).find(({ name }) => name === "deploy")?.last_used_at).not.toBeNull();
});

test("a key neither makes nor changes keys", async () => {
  const token = await makeKey({ permissions: ["viewOrg", "manageOrgSettings"] });
  const [{ id } = { id: "" }] = await keys();
  const body = { name: "child", permissions: ["viewOrg"] };
  expect((await t.ask("POST", "/user/keys", { token, body })).body.code).toBe("forbidden");
  expect((await t.ask("PATCH", `/user/keys/${id}`, { token, body: { allowed_ips: [] } })).body.code).toBe("forbidden");
  expect((await t.ask("POST", `/user/keys/${id}/revoke`, { token })).body.code).toBe("forbidden");
  expect((await t.ask("DELETE", "/user/keys", { token, body: { name: "deploy" } })).body.code).toBe("forbidden");
});

test("a key does only what it was given, and never more than its owner may", async () => {
  const reader = await makeKey({ permissions: ["viewOrg"] });
  expect((await t.ask("GET", "/orgs/red", { token: reader })).status).toBe(200);
  const change = { token: reader, body: { description: "x" } };
  expect((await t.ask("PATCH", "/orgs/red", change)).body.code).toBe("forbidden");
  expect((await t.ask("PATCH", "/caches/red-cache", change)).body.code).toBe("forbidden");
  expect((await t.ask("DELETE", "/caches/red-cache", { token: reader })).body.code).toBe("forbidden");
  expect((await t.ask("PUT", "/orgs", { token: reader, body: { name: "n", display_name: "n" } })).body.code).toBe(
    "forbidden",
  );

  const guest = await t.user("Guest");
  await t.ask("POST", "/orgs/red/users", { token: owner.token, body: { user: "Guest", role: "View" } });
  const everything = await makeKey({ permissions: ["viewOrg", "manageOrgSettings", "deleteOrg"] }, guest);
  expect((await t.ask("DELETE", "/orgs/red", { token: everything })).body.code).toBe("forbidden");
  const pinned = { name: "more", permissions: ["deleteOrg"], organization: "red" };
  expect((await t.ask("POST", "/user/keys", { token: guest.token, body: pinned })).body.code).toBe("forbidden");
});

test("outside its pin a key sees what a stranger sees", async () => {
  const red = await makeKey({ permissions: ["viewOrg", "manageOrgSettings", "deleteOrg"], organization: "red" });
  expect((await t.ask("GET", "/orgs/red", { token: red })).status).toBe(200);
  const elsewhere = await t.ask("GET", "/orgs/blue", { token: red });
  expect(elsewhere.text).toBe((await t.ask("GET", "/orgs/no-such", { token: red })).text);
  expect((await t.ask("GET", "/caches/red-cache", { token: red })).status).toBe(404);
  const { items } = (await t.ask("GET", "/orgs", { token: red })).body.message as { items: { name: string }[] };
  expect(items.map(({ name }) => name)).toEqual(["red"]);
  expect((await t.ask("PUT", "/orgs", { token: red, body: { name: "n", display_name: "n" } })).status).toBe(403);

  const cache = await makeKey({ permissions: ["viewCache", "manageCacheSettings"], cache: "red-cache" });
  expect((await t.ask("PATCH", "/caches/red-cache", { token: cache, body: { description: "d" } })).status).toBe(200);
  expect((await t.ask("DELETE", "/caches/red-cache", { token: cache })).body.code).toBe("forbidden");
  expect((await t.ask("GET", "/caches/blue-cache", { token: cache })).text).toBe(
    (await t.ask("GET", "/caches/no-such", { token: cache })).text,
  );
  expect((await t.ask("GET", "/orgs/red", { token: cache })).status).toBe(404);
  expect((await keys()).find((key) => key.cache === "red-cache")?.permissions).toEqual([
    "viewCache",
    "manageCacheSettings",
  ]);
});

test("a key with a list of addresses works from those only, as the trusted proxy tells them", async () => {
  const token = await makeKey({ permissions: ["viewOrg"], allowed_ips: ["10.1.0.0/16", "2001:db8::1"] });
  const from = async (headers: Record<string, string>) => (await t.ask("GET", "/user", { token, headers })).body.code;
  expect(await from({ "x-test-peer": "10.1.2.3" })).toBeUndefined();
  expect(await from({ "x-test-peer": "2001:db8:0:0::1" })).toBeUndefined();
  expect(await from({ "x-test-peer": "10.2.0.1" })).toBe("forbidden_source_ip");
  expect(await from({ "x-forwarded-for": "10.1.9.9" })).toBeUndefined();
  expect(await from({ "x-forwarded-for": "10.1.9.9, 10.2.0.1" })).toBe("forbidden_source_ip");
  expect(await from({ "x-test-peer": "10.2.0.1", "x-forwarded-for": "10.1.9.9" })).toBe("forbidden_source_ip");
  const wrong = { name: "w", permissions: ["viewOrg"], allowed_ips: ["10.0.0.0/33"] };
  const { body } = await t.ask("POST", "/user/keys", { token: owner.token, body: wrong });
  expect(body.code).toBe("invalid_allowed_ip");
});

test("a key can be given another end, or none", async () => {
  const token = await makeKey({ name: "short", permissions: ["viewOrg"], expires_in_days: 1 });
  const [{ id, created_at } = { id: "", created_at: "" }] = (await keys()).filter(({ name }) => name === "short");
  const change = (days: unknown) =>
    t.ask("PATCH", `/user/keys/${id}`, { token: owner.token, body: { expires_in_days: days } });
  const daysLeft = ({ expires_at }: KeyView) => (Date.parse(expires_at ?? "") - Date.parse(created_at)) / 86_400_000;

  expect(daysLeft((await change(30)).body.message)).toBeCloseTo(30, 1);
  await t.db.updateTable("api_key").set({ expires_at: sql`gradient_now()` }).where("id", "=", id).execute();
  expect((await t.ask("GET", "/user", { token })).status).toBe(401);
  expect((await change(null)).body.message).toMatchObject({ expires_at: null });
  expect((await t.ask("GET", "/user", { token })).status).toBe(200);
  expect((await change(0)).body.code).toBe("validation");
});

test("a key that is revoked, expired or deleted stops working", async () => {
  const [revoked, expired, deleted] = [
    await makeKey({ name: "revoked", permissions: ["viewOrg"] }),
    await makeKey({ name: "expired", permissions: ["viewOrg"], expires_in_days: 1 }),
    await makeKey({ name: "deleted", permissions: ["viewOrg"] }),
  ];
  const id = (await keys()).find(({ name }) => name === "revoked")?.id;
  expect((await t.ask("POST", `/user/keys/${id}/revoke`, { token: owner.token })).status).toBe(200);
  await t.db.updateTable("api_key").set({ expires_at: sql`gradient_now()` }).where("name", "=", "expired").execute();
  expect((await t.ask("DELETE", "/user/keys", { token: owner.token, body: { name: "deleted" } })).status).toBe(200);
  for (const token of [revoked, expired, deleted]) expect((await t.ask("GET", "/user", { token })).status).toBe(401);
});

test("a key's name, permissions, pin and addresses can be changed, and another's key is not there", async () => {
  const token = await makeKey({ name: "before", permissions: ["viewOrg"], organization: "red" });
  const id = (await keys()).find(({ name }) => name === "before")?.id;
  const change = { name: "after", permissions: ["editProject", "viewOrg"], organization: "blue", allowed_ips: ["::1"] };
  const { body } = await t.ask("PATCH", `/user/keys/${id}`, { token: owner.token, body: change });
  expect(body.message).toMatchObject({ ...change, permissions: ["viewOrg", "editProject"], allowed_ips: ["::1/128"] });
  const free = { organization: null, allowed_ips: [] };
  expect((await t.ask("PATCH", `/user/keys/${id}`, { token: owner.token, body: free })).body.message).toMatchObject(
    free,
  );
  expect((await t.ask("GET", "/orgs/red", { token })).status).toBe(200);

  const stranger = await t.user("Stranger");
  const foreign = await t.ask("PATCH", `/user/keys/${id}`, { token: stranger.token, body: { name: "mine" } });
  const unknown = `/user/keys/00000000-0000-7000-8000-000000000000`;
  expect(foreign.text).toBe((await t.ask("PATCH", unknown, { token: stranger.token, body: { name: "mine" } })).text);
  expect(foreign.status).toBe(404);
});

test("what a key cannot be is refused with the reason", async () => {
  const code = async (body: object) =>
    (await t.ask("POST", "/user/keys", { token: owner.token, body: { name: "x", permissions: ["viewOrg"], ...body } }))
      .body.code;
  expect(await code({ name: "deploy" })).toBe("already_exists");
  expect(await code({ permissions: ["viewEverything"] })).toBe("validation");
  expect(await code({ permissions: ["writeStore"] })).toBe("validation");
  expect(await code({ cache: "red-cache" })).toBe("validation");
  expect(await code({ organization: "red", cache: "red-cache" })).toBe("validation");
  expect(await code({ organization: "no-such" })).toBe("validation");
});

test("the permissions that a key can hold are listed with whether they change anything", async () => {
  const { body } = await t.ask("GET", "/user/keys/permissions", { token: owner.token });
  expect(body.message).toMatchObject({
    available_permissions: expect.arrayContaining([
      { id: "viewOrg", mutating: false },
      { id: "manageTriggers", mutating: true },
    ]),
    availableCache: expect.arrayContaining([{ id: "readStore", mutating: false }]),
  });
});

test("what its owner loses, a key loses at the same moment", async () => {
  const member = await t.user("Member");
  const users = (method: string, role: string) =>
    t.ask(method, "/orgs/blue/users", { token: owner.token, body: { user: "Member", role } });
  await users("POST", "Admin");
  const key = await makeKey({ permissions: ["viewOrg", "manageOrgSettings"], organization: "blue" }, member);
  const change = () => t.ask("PATCH", "/orgs/blue", { token: key, body: { description: "d" } });
  expect((await change()).status).toBe(200);
  await users("PATCH", "View");
  expect((await change()).status).toBe(403);
  await users("DELETE", "");
  expect((await change()).text).toBe((await t.ask("PATCH", "/orgs/no-such", { token: key, body: {} })).text);
  await t.db.updateTable("user_account").set({ active: false }).where("id", "=", member.id).execute();
  expect((await change()).status).toBe(403);
  await t.db.deleteFrom("user_account").where("id", "=", member.id).execute();
  expect((await change()).status).toBe(401);
});

test("through a key with a pin, its owner's other keys are not listed", async () => {
  const red = await makeKey({ name: "red one", permissions: ["viewOrg"], organization: "red" });
  await makeKey({ name: "blue one", permissions: ["viewOrg"], organization: "blue" });
  const cache = await makeKey({ name: "cache one", permissions: ["readStore", "viewCache"], cache: "blue-cache" });
  const names = async (token: string) => {
    const { message } = (await t.ask("GET", "/user/keys", { token })).body;
    return (message as KeyView[]).map(({ name }) => name);
  };
  expect(await names(red)).toContain("red one");
  expect(await names(red)).not.toContain("blue one");
  expect(await names(cache)).toEqual(["cache one"]);
  expect(await names(owner.token)).toEqual(expect.arrayContaining(["red one", "blue one", "cache one"]));
  const listed = (await keys()).find(({ name }) => name === "cache one");
  expect(listed).toMatchObject({ permissions: ["viewCache", "readStore"], cache: "blue-cache", organization: null });
});

test("the time of use is written once a minute, however many use the key at once", async () => {
  const token = await makeKey({ name: "busy", permissions: ["viewOrg"] });
  await sql`
    create table key_write (n int);
    create function note_key_write() returns trigger language plpgsql as
      $$ begin insert into key_write values (1); return new; end $$;
    create trigger note_key_write after update of last_used_at on api_key
      for each row execute function note_key_write()`.execute(t.db);
  const writes = async () => (await sql`select from key_write`.execute(t.db)).rows.length;
  await Promise.all(Array.from({ length: 8 }, () => t.ask("GET", "/user", { token })));
  expect(await writes()).toBe(1);
  await sql`update api_key set last_used_at = gradient_now() - interval '61 s' where name = 'busy'`.execute(t.db);
  const before = await writes();
  await Promise.all(Array.from({ length: 8 }, () => t.ask("GET", "/user", { token })));
  expect(await writes()).toBe(before + 1);
});

test("two changes of one key at once leave a key that could have been made", async () => {
  const member = await t.user("Racer");
  await t.ask("POST", "/orgs/red/users", { token: owner.token, body: { user: "Racer", role: "View" } });
  for (let round = 0; round < 3; round++) {
    await makeKey({ name: `racing ${round}`, permissions: ["viewOrg"] }, member);
    const row = () =>
      t.db.selectFrom("api_key").selectAll().where("name", "=", `racing ${round}`).executeTakeFirstOrThrow();
    const { id } = await row();
    const change = (body: object) => t.ask("PATCH", `/user/keys/${id}`, { token: member.token, body });
    const answers = await Promise.all([change({ permissions: ["deleteOrg"] }), change({ organization: "red" })]);
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 403]);
    const { organization_id, permissions } = await row();
    expect(organization_id !== null && permissions !== 1).toBe(false);
  }
});
