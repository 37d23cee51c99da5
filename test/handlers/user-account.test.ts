import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { lockOtherSuperusers } from "#core/db/users.ts";
import { ORGANIZATION_ROLE } from "#core/domain/permissions.ts";
import { untilSomebodyWaits } from "../support/locks.ts";
import { PASSWORD, type TestApp, type TestUser, withApp } from "./support.ts";

const NEW_PASSWORD = "N3w&shiny-one";

interface Session {
  readonly id: string;
  readonly current: boolean;
}

let t: TestApp;
beforeAll(async () => {
  t = await withApp();
});
afterAll(() => t[Symbol.asyncDispose]());

async function login(loginname: string, password = PASSWORD) {
  return await t.ask("POST", "/auth/basic/login", {
    body: { loginname, password },
    headers: { "user-agent": "Browser/1.0", "x-test-peer": "203.0.113.9" },
  });
}

async function sessionsOf(token: string): Promise<Session[]> {
  return (await t.ask("GET", "/user/sessions", { token })).body.message;
}

async function eventsOf({ token }: Pick<TestUser, "token">): Promise<string[]> {
  const { body } = await t.ask("GET", "/user/audit-log", { token });
  return (body.message as { items: { event: string }[] }).items.map(({ event }) => event);
}

async function apiKey({ token }: TestUser, more: object = {}): Promise<string> {
  const body = { name: crypto.randomUUID(), permissions: ["viewOrg"], ...more };
  return (await t.ask("POST", "/user/keys", { token, body })).body.message;
}

async function createOrganization({ token }: TestUser, name: string): Promise<void> {
  const { status } = await t.ask("PUT", "/orgs", { token, body: { name, display_name: "O", description: "" } });
  expect(status).toBe(200);
}

test("sessions are listed with where they come from, and one that is ended is refused at once", async () => {
  const user = await t.user("Sessions");
  const { body } = await login("Sessions");
  const token: string = body.message;
  const sessions = await sessionsOf(token);
  expect(sessions).toHaveLength(2);
  expect(sessions.find(({ current }) => current)).toEqual({
    id: expect.any(String),
    user_agent: "Browser/1.0",
    ip: "203.0.113.9",
    created_at: expect.stringMatching(/\+00:00$/),
    last_used_at: expect.stringMatching(/\+00:00$/),
    expires_at: expect.stringMatching(/\+00:00$/),
    remember_me: false,
    current: true,
  });
  const other = sessions.find(({ current }) => !current)?.id;

  expect((await t.ask("DELETE", `/user/sessions/${other}`, { token })).status).toBe(200);

  expect((await t.ask("GET", "/user", { token: user.token })).status).toBe(401);
  expect((await t.ask("DELETE", `/user/sessions/${other}`, { token })).status).toBe(404);
  expect(await sessionsOf(token)).toMatchObject([{ current: true }]);
  expect((await eventsOf({ token })).slice(0, 2)).toEqual(["session.revoke", "login.success"]);
});

test("nobody ends, or learns of, the sessions of others", async () => {
  const victim = await t.user("Victim");
  const { token } = await t.user("Intruder");
  const [session] = await sessionsOf(victim.token);
  const theirs = await t.ask("DELETE", `/user/sessions/${session?.id}`, { token });
  const none = await t.ask("DELETE", `/user/sessions/${crypto.randomUUID()}`, { token });
  expect([theirs.status, theirs.text]).toEqual([404, none.text]);
  expect((await t.ask("DELETE", "/user/sessions/x", { token })).status).toBe(400);
  expect((await t.ask("GET", "/user", { token: victim.token })).status).toBe(200);
});

test("all other sessions can be ended at once", async () => {
  await t.user("Everywhere");
  const tokens: string[] = [];
  for (let i = 0; i < 3; i++) tokens.push((await login("Everywhere")).body.message);
  const kept = tokens[1] as string;
  const { body } = await t.ask("DELETE", "/user/sessions", { token: kept });
  expect(body.message).toBe("Sessions ended: 3");
  for (const token of tokens) {
    expect((await t.ask("GET", "/user", { token })).status).toBe(token === kept ? 200 : 401);
  }
});

test("an API key changes no account, and with a pin it does not look into one", async () => {
  const user = await t.user("Keyholder");
  await createOrganization(user, "keyholders");
  const token = await apiKey(user);
  const [session] = await sessionsOf(user.token);
  for (const [method, path, body] of [
    ["DELETE", "/user", { password: PASSWORD }],
    ["DELETE", "/user/sessions", undefined],
    ["DELETE", `/user/sessions/${session?.id}`, undefined],
    ["PATCH", "/user/settings", { name: "Other" }],
    ["POST", "/user/password", { current_password: PASSWORD, new_password: NEW_PASSWORD }],
  ] as const) {
    const { status } = await t.ask(method, path, { token, body });
    expect([method, path, status]).toEqual([method, path, 403]);
  }
  for (const path of ["/user/sessions", "/user/settings", "/user/audit-log"]) {
    expect([path, (await t.ask("GET", path, { token })).status]).toEqual([path, 200]);
  }
  const pinned = await apiKey(user, { organization: "keyholders" });
  for (const path of ["/user/sessions", "/user/settings", "/user/audit-log"]) {
    expect([path, (await t.ask("GET", path, { token: pinned })).status]).toEqual([path, 403]);
  }
});

test("settings keep the rules of names and addresses, and belong to one user each", async () => {
  const user = await t.user("Settings");
  await t.user("Occupied");
  const change = async (body: object) => (await t.ask("PATCH", "/user/settings", { token: user.token, body })).body;
  expect((await change({ username: "a" })).code).toBe("invalid_username");
  expect((await change({ name: " " })).code).toBe("invalid_name");
  expect((await change({ email: "nonsense" })).code).toBe("invalid_email");
  expect((await change({ username: "OCCUPIED" })).code).toBe("already_exists");
  expect((await change({ email: "occupied@EXAMPLE.com" })).code).toBe("already_exists");
  expect((await change({})).error).toBe(false);

  expect((await change({ username: "Settled", name: "S. E.", email: "settled@example.com" })).error).toBe(false);

  expect((await t.ask("GET", "/user/settings", { token: user.token })).body.message).toEqual({
    username: "Settled",
    name: "S. E.",
    email: "settled@example.com",
    email_verified: false,
    is_oidc: false,
    managed: false,
  });
  expect((await login("settled")).status).toBe(200);
  expect(await eventsOf(user)).toContain("user.update");
});

test("nobody takes a name by which the operator's state expects somebody who has no account yet", async () => {
  const owner = await t.user("Declarer");
  await createOrganization(owner, "expecting");
  await sql`
    insert into pending_member (organization_id, role_id, username)
    select id, ${ORGANIZATION_ROLE.Admin}::uuid, 'Expected' from organization where name = 'expecting'`.execute(t.db);
  const { token } = await t.user("Taker");
  const { body } = await t.ask("PATCH", "/user/settings", { token, body: { username: "EXPECTED" } });
  expect(body.code).toBe("already_exists");
  expect((await t.ask("GET", "/user", { token })).body.message).toMatchObject({ username: "Taker" });
});

test("accounts that are kept elsewhere are changed there", async () => {
  const declared = await t.user("Declared");
  await t.db.updateTable("user_account").set({ managed: true }).where("id", "=", declared.id).execute();
  const provided = await t.user("Provided");
  await t.db.updateTable("user_account").set({ password_hash: null }).where("id", "=", provided.id).execute();
  for (const { token } of [declared, provided]) {
    expect((await t.ask("PATCH", "/user/settings", { token, body: { name: "Other" } })).status).toBe(403);
    const body = { current_password: PASSWORD, new_password: NEW_PASSWORD };
    expect((await t.ask("POST", "/user/password", { token, body })).status).toBe(403);
  }
  expect((await t.ask("DELETE", "/user", { token: declared.token, body: { password: PASSWORD } })).status).toBe(403);
  const settings = await t.ask("GET", "/user/settings", { token: provided.token });
  expect(settings.body.message).toMatchObject({ is_oidc: true, managed: false });
});

test("a new password takes the old one, keeps the rules, and ends the other sessions", async () => {
  const user = await t.user("Changer");
  const token: string = (await login("Changer")).body.message;
  const change = async (current_password: string, new_password: string) =>
    await t.ask("POST", "/user/password", { token, body: { current_password, new_password } });
  expect((await change("Wr0ng-secret!", NEW_PASSWORD)).status).toBe(403);
  expect((await change(PASSWORD, "weak")).body.code).toBe("invalid_password");
  expect((await change(PASSWORD, NEW_PASSWORD)).status).toBe(200);

  expect((await t.ask("GET", "/user", { token })).status).toBe(200);
  expect((await t.ask("GET", "/user", { token: user.token })).status).toBe(401);
  expect((await login("Changer")).status).toBe(401);
  expect((await login("Changer", NEW_PASSWORD)).status).toBe(200);
  const both = await Promise.all(["A", "B"].map((end) => change(NEW_PASSWORD, `${PASSWORD}${end}`)));
  expect(both.filter(({ status }) => status === 200)).toHaveLength(1);
});

test("users are found by part of their names, without addresses, ten at most", async () => {
  const { token } = await t.user("Searcher");
  await t.user("Needle-1");
  await t.user("a-needle");
  const gone = await t.user("Needle-2");
  await t.db.updateTable("user_account").set({ active: false }).where("id", "=", gone.id).execute();
  const find = async (q: string) => {
    const { body } = await t.ask("GET", `/user/search?q=${encodeURIComponent(q)}`, { token });
    return body.message as { username: string }[];
  };
  const found = await find("NEEDLE");
  expect(found.map(({ username }) => username)).toEqual(["Needle-1", "a-needle"]);
  expect(Object.keys(found[0] as object).sort()).toEqual(["id", "name", "username"]);
  expect(await find("%")).toEqual([]);
  expect(await find("N_edle")).toEqual([]);
  expect(await find("example.com")).toEqual([]);
  expect((await find("")).length).toBeLessThanOrEqual(10);
  expect((await t.ask("GET", "/user/search?q=needle")).status).toBe(401);
});

test("one or two letters are looked for where words of names begin, not amid them", async () => {
  const { token } = await t.user("Xq-searcher");
  for (const [username, name] of [
    ["first", "Zyanya Wu"],
    ["second", "Wu Zyanya"],
    ["third", "Wu xzyanya"],
    ["fourth", "100%zy"],
  ] as const) {
    const { id } = await t.user(username);
    await t.db.updateTable("user_account").set({ name }).where("id", "=", id).execute();
  }
  const find = async (q: string) => {
    const { body } = await t.ask("GET", `/user/search?q=${encodeURIComponent(q)}`, { token });
    return (body.message as { username: string }[]).map(({ username }) => username);
  };
  expect(await find("ZY")).toEqual(["first", "second"]);
  expect(await find("z")).toEqual(["first", "second"]);
  expect(await find("xq")).toEqual(["Xq-searcher"]);
  expect(await find("%z")).toEqual([]);
});

test("a deleted account leaves nothing that opens a door, and what it made stays", async () => {
  const user = await t.user("Quitter");
  const other = await t.user("Stayer");
  await createOrganization(user, "left-behind");
  const body = { user: "Stayer", role: "Admin" };
  expect((await t.ask("POST", "/orgs/left-behind/users", { token: user.token, body })).status).toBe(200);
  const key = await apiKey(user);

  const remove = async (sent: object) => await t.ask("DELETE", "/user", { token: user.token, body: sent });
  const unasked = await remove({});
  expect([unasked.status, unasked.body.message]).toEqual([403, expect.stringContaining("password: must be yours")]);
  expect((await remove({ password: "Wr0ng-secret!" })).status).toBe(403);
  expect((await remove({ confirm_username: "Quitter" })).status).toBe(403);
  expect((await remove({ password: PASSWORD })).status).toBe(200);

  for (const token of [user.token, key]) expect((await t.ask("GET", "/user", { token })).status).toBe(401);
  expect((await login("Quitter")).status).toBe(401);
  const organization = await t.ask("GET", "/orgs/left-behind", { token: other.token });
  expect(organization.body.message).toMatchObject({ created_by: null });
  const events = await t.db.selectFrom("audit_event").selectAll().where("event", "=", "user.delete").execute();
  expect(events).toMatchObject([{ user_id: null, username: "Quitter", metadata: { username: "Quitter" } }]);
  const again = { username: "quitter", name: "Q", email: "Quitter@example.com", password: PASSWORD };
  expect((await t.ask("POST", "/auth/basic/register", { body: again })).status).toBe(200);
});

test("an account without a password is deleted by typing its name", async () => {
  const { id, token } = await t.user("Typist");
  await t.db.updateTable("user_account").set({ password_hash: null }).where("id", "=", id).execute();
  const remove = async (body: object) => (await t.ask("DELETE", "/user", { token, body })).status;
  expect(await remove({ password: PASSWORD })).toBe(403);
  expect(await remove({ confirm_username: "typist" })).toBe(403);
  expect(await remove({ confirm_username: "Typist" })).toBe(200);
});

test("nobody leaves an organization or a cache without an Admin, not even two that go at once", async () => {
  const [one, two] = [await t.user("Leader-1"), await t.user("Leader-2")];
  await createOrganization(one, "orphan");
  const alone = await t.ask("DELETE", "/user", { token: one.token, body: { password: PASSWORD } });
  expect([alone.status, alone.body.code]).toEqual([409, "conflict"]);
  expect(alone.body.message).toContain("organizations: orphan.");
  const body = { user: "Leader-2", role: "Admin" };
  await t.ask("POST", "/orgs/orphan/users", { token: one.token, body });

  const both = await Promise.all(
    [one, two].map(({ token }) => t.ask("DELETE", "/user", { token, body: { password: PASSWORD } })),
  );
  expect(both.map(({ status }) => status).sort()).toEqual([200, 409]);

  const owner = await t.user("Cache-owner");
  await t.ask("PUT", "/caches", { token: owner.token, body: { name: "orphan", display_name: "O", description: "" } });
  const refused = await t.ask("DELETE", "/user", { token: owner.token, body: { password: PASSWORD } });
  expect(refused.body.message).toContain("caches: orphan.");
});

test("superusers are so at once, belong to nothing by that, and the last one stays", async () => {
  const member = await t.user("Member");
  await createOrganization(member, "closed");
  const root = await t.user("Operator", { superuser: true });
  expect((await t.ask("GET", "/user", { token: root.token })).body.message).toMatchObject({ superuser: true });
  expect((await t.ask("GET", "/orgs/closed", { token: root.token })).status).toBe(404);
  const tasks = async () => (await t.ask("GET", "/admin/tasks", { token: root.token })).status;
  expect(await tasks()).toBe(200);

  const remove = async ({ token }: TestUser) => await t.ask("DELETE", "/user", { token, body: { password: PASSWORD } });
  const refused = await remove(root);
  expect([refused.status, refused.body.message]).toEqual([409, expect.stringContaining("only superuser")]);
  const second = await t.user("Operator-2", { superuser: true });
  const last = await t.db.transaction().execute(async (trx) => {
    expect(await lockOtherSuperusers(trx, root.id)).toBe(true);
    const leaving = remove(second);
    await untilSomebodyWaits(t.db);
    await trx.deleteFrom("user_account").where("id", "=", root.id).execute();
    return { leaving };
  });
  expect((await last.leaving).status).toBe(409);

  await t.db.updateTable("user_account").set({ superuser: false }).where("id", "=", second.id).execute();
  expect((await t.ask("GET", "/admin/tasks", { token: second.token })).body.code).toBe("superuser_required");
});
