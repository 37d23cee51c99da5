import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { AuditEventView, RealmAuditEventView } from "#core/api/audit.ts";
import type { Page } from "#core/api/pages.ts";
import type { AuditEvent } from "#core/domain/audit-events.ts";
import { pruneAuditEvents, recordAudit } from "#core/services/audit.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let admin: TestUser;
let viewer: TestUser;
beforeAll(async () => {
  t = await withApp();
  admin = await t.user("Admina");
  viewer = await t.user("Viewer");
});
afterAll(() => t[Symbol.asyncDispose]());

async function log(path: string, token: string): Promise<Page<AuditEventView & RealmAuditEventView>> {
  return (await t.ask("GET", `${path}/audit-log`, { token })).body.message;
}

async function own(user: TestUser): Promise<string[]> {
  return (await log("/user", user.token)).items.map(({ event }) => event);
}

test("admins are told what was done to an organization and to a cache, people what they did themselves", async () => {
  const token = admin.token;
  const ask = (method: string, path: string, body?: object) => t.ask(method, path, { token, ...(body && { body }) });
  await ask("PUT", "/orgs", { name: "watched", display_name: "Watched" });
  await ask("PATCH", "/orgs/watched", { description: "d" });
  await ask("POST", "/orgs/watched/users", { user: "Viewer", role: "View" });
  await ask("PATCH", "/orgs/watched/users", { user: "Viewer", role: "Write" });
  const role = (await ask("POST", "/orgs/watched/roles", { name: "r", permissions: ["viewOrg"] })).body.message;
  await ask("PATCH", `/orgs/watched/roles/${(role as { id: string }).id}`, { permissions: ["manageRoles"] });
  await ask("DELETE", `/orgs/watched/roles/${(role as { id: string }).id}`);
  await ask("POST", "/orgs/watched/ssh");
  await ask("POST", "/orgs/watched/forge-webhook-secret");
  await ask("PUT", "/orgs/watched/integrations", { name: "f", kind: "inbound", forge_type: "gitea", secret: "x1y2" });
  const worker_id = crypto.randomUUID();
  await ask("POST", "/orgs/watched/workers", { worker_id });
  await ask("PATCH", `/orgs/watched/workers/${worker_id}`, { active: false });
  await ask("DELETE", `/orgs/watched/workers/${worker_id}`);
  await ask("PUT", "/caches", { name: "watched-cache", display_name: "Watched" });
  await ask("POST", "/caches/watched-cache/members", { user: "Viewer", role: "View" });
  const exported = await ask("GET", "/caches/watched-cache/key");
  await ask("POST", "/caches/watched-cache/keys/rotate");
  await ask("POST", "/orgs/watched/subscribe/watched-cache");
  await ask("POST", "/user/keys", { name: "k", permissions: ["viewOrg"], organization: "watched" });
  await ask("DELETE", "/orgs/watched/users", { user: "Viewer" });

  const organization = await log("/orgs/watched", token);
  expect(organization).toMatchObject({ total: 16, page: 1, per_page: 50 });
  expect(organization.items.map(({ event }) => event)).toEqual([
    "organization.member.remove",
    "api_key.create",
    "organization.subscription.create",
    "worker.delete",
    "worker.update",
    "worker.register",
    "integration.create",
    "organization.webhook_secret.replace",
    "organization.ssh_key.replace",
    "organization.role.delete",
    "organization.role.update",
    "organization.role.create",
    "organization.member.role_change",
    "organization.member.add",
    "organization.update",
    "organization.create",
  ]);
  expect(organization.items[12]).toEqual({
    id: expect.any(String),
    event: "organization.member.role_change",
    user: "Admina",
    metadata: { organization: "watched", user: "Viewer", role: "Write", before: "View" },
    created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/),
  });
  const cache = await log("/caches/watched-cache", token);
  expect(cache.items.map(({ event }) => event)).toEqual([
    "organization.subscription.create",
    "cache.key.create",
    "cache.key.export",
    "cache.member.create",
    "cache.create",
  ]);
  expect(await own(admin)).toHaveLength(20);
  expect(await own(viewer)).toEqual([]);
  const told = JSON.stringify([organization, cache]);
  expect(told).not.toMatch(/x1y2|GRAD|127\.0\.0\.1/);
  expect(told).not.toContain((exported.body.message as string).split(":")[1]);
});

test("what was done to a project's triggers and actions is recorded, without what is secret of it", async () => {
  const user = await t.user("Starter");
  const ask = (method: string, path: string, body?: object) =>
    t.ask(method, path, { token: user.token, ...(body && { body }) });
  await ask("PUT", "/orgs", { name: "starting", display_name: "S" });
  const project = { name: "site", display_name: "Site", repository: "https://example.com/s.git", wildcard: "x.*" };
  expect((await ask("PUT", "/projects/starting", project)).text).toContain('"error":false');
  const path = "/projects/starting/site";
  const time = { type: "time", cron: "0 0 4 * * *" };
  const { id: trigger } = (await ask("POST", `${path}/triggers`, { config: time })).body.message as { id: string };
  await ask("PATCH", `${path}/triggers/${trigger}`, { active: false });
  await ask("DELETE", `${path}/triggers/${trigger}`);
  const config = { type: "send_web_request", url: "https://example.com/hook", token: "hush-hush" };
  const action = { name: "hook", events: ["evaluation.failed"], config };
  const made = (await ask("POST", `${path}/actions`, action)).body.message as { action: { id: string } };
  await ask("PATCH", `${path}/actions/${made.action.id}`, { active: false });
  await ask("POST", `${path}/actions/${made.action.id}/regenerate-token`);
  await ask("DELETE", `${path}/actions/${made.action.id}`);

  const { items } = await log("/orgs/starting", user.token);
  expect(items.slice(0, 7).map(({ event, metadata }) => [event, metadata])).toEqual([
    ["project.action.delete", { project: "site", action: "hook", action_id: made.action.id }],
    ["project.action.token.replace", { project: "site", action: "hook", action_id: made.action.id }],
    ["project.action.update", { project: "site", action: "hook", action_id: made.action.id, changed: ["active"] }],
    ["project.action.create", { project: "site", action: "hook", action_id: made.action.id, type: config.type }],
    ["project.trigger.delete", { project: "site", trigger_id: trigger }],
    ["project.trigger.update", { project: "site", trigger_id: trigger, type: "time", changed: ["active"] }],
    ["project.trigger.create", { project: "site", trigger_id: trigger, type: "time" }],
  ]);
  expect(JSON.stringify(items)).not.toMatch(/hush|gat_/);
});

test("a record says from where and with which key, and outlives what it tells of", async () => {
  const user = await t.user("Tidy");
  const headers = { "x-test-peer": "192.0.2.9", "user-agent": "curl/8" };
  const ask = (method: string, path: string, body?: object, token = user.token) =>
    t.ask(method, path, { token, headers, ...(body && { body }) });
  await ask("PUT", "/orgs", { name: "brief", display_name: "Brief" });
  const key = await ask("POST", "/user/keys", { name: "all", permissions: ["viewOrg", "deleteOrg"] });
  expect((await ask("DELETE", "/orgs/brief", undefined, key.body.message)).status).toBe(200);
  const { items } = await log("/user", user.token);
  const keys = await t.db.selectFrom("api_key").select("id").where("owner_id", "=", user.id).execute();
  expect(items[0]).toMatchObject({
    event: "organization.delete",
    ip: "192.0.2.9",
    user_agent: "curl/8",
    metadata: { organization: "brief", api_key_id: keys[0]?.id },
  });
  expect(items.map(({ event }) => event)).toEqual(["organization.delete", "api_key.create", "organization.create"]);
  await t.db.deleteFrom("user_account").where("id", "=", user.id).execute();
  const left = await t.db.selectFrom("audit_event").select("user_id").where("username", "=", "Tidy").execute();
  expect(left).toEqual([{ user_id: null }, { user_id: null }, { user_id: null }]);
});

test("a change that is refused leaves no record", async () => {
  const user = await t.user("Vain");
  const ask = (method: string, path: string, body?: object) =>
    t.ask(method, path, { token: user.token, ...(body && { body }) });
  await ask("PUT", "/orgs", { name: "vain", display_name: "Vain" });
  await ask("PUT", "/orgs", { name: "vain", display_name: "Vain" });
  await ask("DELETE", "/orgs/vain/users", { user: "Vain" });
  await ask("POST", "/orgs/vain/roles", { name: "x", permissions: ["nothing"] });
  expect(await own(user)).toEqual(["organization.create"]);
});

test("what is deleted while it is changed leaves records of both, and no failure", async () => {
  const user = await t.user("Hasty");
  const ask = (method: string, path: string, body?: object) =>
    t.ask(method, path, { token: user.token, ...(body && { body }) });
  for (let round = 0; round < 3; round++) {
    await ask("PUT", "/orgs", { name: "hasty", display_name: "Hasty" });
    const answers = await Promise.all([
      ask("DELETE", "/orgs/hasty"),
      ask("PATCH", "/orgs/hasty", { description: "late" }),
      ask("POST", "/orgs/hasty/roles", { name: "late", permissions: ["viewOrg"] }),
      ask("POST", "/user/keys", { name: `late ${round}`, permissions: ["viewOrg"], organization: "hasty" }),
      ask("DELETE", "/orgs/hasty"),
    ]);
    for (const { status } of answers) expect([200, 400, 404, 409]).toContain(status);
    expect(
      answers
        .filter((_, index) => index % 4 === 0)
        .map(({ status }) => status)
        .toSorted(),
    ).toEqual([200, 404]);
  }
  expect((await own(user)).filter((event) => event === "organization.delete")).toHaveLength(3);
  await ask("PUT", "/caches", { name: "hasty", display_name: "Hasty" });
  const deletions = await Promise.all([ask("DELETE", "/caches/hasty"), ask("DELETE", "/caches/hasty")]);
  expect(deletions.map(({ status }) => status).toSorted()).toEqual([200, 404]);
  expect((await own(user)).filter((event) => event === "cache.delete")).toHaveLength(1);
});

test("who may not change the settings does not read the log, and a key with a pin not its owner's", async () => {
  const token = admin.token;
  const body = { name: "closed", display_name: "Closed" };
  await t.ask("PUT", "/orgs", { token, body });
  await t.ask("POST", "/orgs/closed/users", { token, body: { user: "Viewer", role: "Write" } });
  const ask = (path: string, by: string) => t.ask("GET", `${path}/audit-log`, { token: by });
  expect((await ask("/orgs/closed", viewer.token)).status).toBe(403);
  const stranger = await t.user("Stranger");
  expect((await ask("/orgs/closed", stranger.token)).text).toBe((await ask("/orgs/no-such", stranger.token)).text);
  expect((await t.ask("GET", "/user/audit-log")).status).toBe(401);
  const make = async (more: object) =>
    (await t.ask("POST", "/user/keys", { token, body: { permissions: ["viewOrg"], ...more } })).body.message as string;
  expect((await ask("/user", await make({ name: "pinned", organization: "closed" }))).status).toBe(403);
  expect((await ask("/user", await make({ name: "free" }))).status).toBe(200);
});

test("refused credentials are recorded for whose they are, once a minute for an address", async () => {
  const user = await t.user("Guarded");
  const body = { name: "k", permissions: ["viewOrg"], allowed_ips: ["10.0.0.0/8"] };
  const key = (await t.ask("POST", "/user/keys", { token: user.token, body })).body.message as string;
  const from = (address: string, token: string) =>
    t.ask("GET", "/orgs", { token, headers: { "x-test-peer": address } });
  for (const address of ["192.0.2.1", "192.0.2.1", "192.0.2.2"]) {
    expect((await from(address, key)).body.code).toBe("forbidden_source_ip");
  }
  const { items } = await log("/user", user.token);
  expect(items.slice(0, -1).map(({ event, ip, metadata: { reason } }) => [event, ip, reason])).toEqual([
    ["auth.deny", "192.0.2.2", "forbidden_source_ip"],
    ["auth.deny", "192.0.2.1", "forbidden_source_ip"],
  ]);
  expect(items[0]?.metadata).toMatchObject({ method: "GET", path: "/api/v1/orgs" });
  for (let time = 0; time < 3; time++) expect((await from("192.0.2.3", "nonsense")).status).toBe(401);
  const anonymous = t.db.selectFrom("audit_event").select("id").where("ip", "=", "192.0.2.3");
  expect(await anonymous.execute()).toHaveLength(1);
});

test("what strangers make come is recorded so often a minute, and what a user does always", async () => {
  const user = await t.user("Target");
  const write = (event: AuditEvent, userId: string | null, count: number) =>
    Promise.all(Array.from({ length: count }, () => recordAudit(t.db, { event, userId })));
  for (let round = 0; round < 8; round++) await write("login.failure", user.id, 10);
  await write("organization.update", user.id, 70);
  const counted = await sql<{ event: string; count: number }>`
    select event, count(*)::int from audit_event where user_id = ${user.id} group by event order by event`.execute(
    t.db,
  );
  expect(counted.rows).toEqual([
    { event: "login.failure", count: 60 },
    { event: "organization.update", count: 70 },
  ]);
});

test("what clients send is kept only as far as the database can keep it", async () => {
  const user = await t.user("Strange");
  const metadata = { text: `\ud800 a\0b ${"x".repeat(5_000)}`, list: Array.from({ length: 500 }, () => "\udfff") };
  const client = { address: "192.0.2.1", userAgent: "\ud83d".repeat(900) };
  await recordAudit(t.db, { event: "login.failure", userId: user.id, client, metadata });
  const [item] = (await log("/user", user.token)).items;
  expect(item?.metadata).toEqual({
    text: expect.stringMatching(/^\ufffd ab x{994}$/),
    list: Array.from({ length: 100 }, () => "\ufffd"),
  });
  expect(item?.user_agent?.length).toBe(512);
});

test("old records go, and of too many of one person to one place the oldest", async () => {
  const [busy, other] = [await t.user("Busy"), await t.user("Other")];
  const insert = (userId: string, event: string, count: number, age: string) =>
    sql`insert into audit_event (id, event, user_id, created_at)
      select gen_random_uuid(), ${event} || n, ${userId}, gradient_now() - ${age}::interval - n * interval '1 second'
      from generate_series(1, ${count}::int) n`.execute(t.db);
  await insert(busy.id, "many", 41_200, "1 day");
  // Others' attempts to sign in as somebody push out none of their deeds.
  await sql`
    insert into audit_event (id, event, user_id)
    select gen_random_uuid(), 'login.failure', ${busy.id} from generate_series(1, 40001)`.execute(t.db);
  await insert(other.id, "old", 3, "401 days");
  await insert(other.id, "young", 2, "399 days");
  await pruneAuditEvents(t.db, new AbortController().signal);
  expect((await own(other)).toSorted()).toEqual(["young1", "young2"]);
  const { rows } = await sql<{ count: number; oldest: string }>`
    select count(*)::int as count, (array_agg(event order by created_at))[1] as oldest
    from audit_event where user_id = ${busy.id} group by event = 'login.failure' order by 2`.execute(t.db);
  expect(rows).toEqual([
    { count: 40_000, oldest: "login.failure" },
    { count: 40_000, oldest: "many40000" },
  ]);
});

test("the log of a person, an organization and a cache is read by an index", async () => {
  await t.db.transaction().execute(async (trx) => {
    await sql`set local enable_seqscan = off`.execute(trx);
    for (const column of ["user_id", "organization_id", "cache_id"]) {
      const { rows } = await sql<{ "QUERY PLAN": string }>`
        explain select * from audit_event where ${sql.ref(column)} = ${sql.lit(admin.id)}
        order by created_at desc, id desc limit 50`.execute(trx);
      const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
      expect(plan).toContain("Index Scan Backward using audit_event_");
      expect(plan).not.toContain("Sort");
    }
  });
});
