import { expect, test } from "vitest";
import { BuildStatus } from "#core/domain/states.ts";
import { type TestApp, withApp } from "#test/handlers/support.ts";
import { insertAttempt, insertBuild, insertEvaluationRow, insertProjectRow, linkBuild } from "#test/support/rows.ts";
import { makeSession } from "#test/support/session.ts";
import { apply, BASE_WORKER, changesOf, everything, type Json, WORKER } from "./support.ts";

/** One after the other; what each does to the server. */
const REMOVALS: readonly (readonly [what: string, remove: (file: Json) => void, changes: readonly string[]])[] = [
  ["an action", (file) => file.projects.web.actions.pop(), ["changed: actions of the project web of acme"]],
  [
    "all overridden inputs",
    (file) => {
      file.projects.web.flake_input_overrides = {};
    },
    ["changed: overridden inputs of the project web of acme"],
  ],
  ["a trigger", (file) => file.projects.web.triggers.pop(), ["changed: triggers of the project web of acme"]],
  ["an integration", (file) => delete file.integrations["forge-out"], ["deleted: outbound integration forge of acme"]],
  ["an API key", (file) => delete file.api_keys["push key"], ["deleted: API key push key of bob"]],
  ["an upstream", (file) => file.caches.main.upstreams.pop(), ["changed: upstreams of the cache main"]],
  [
    "a role of a cache, whose member becomes another",
    (file) => {
      file.caches.main.roles = [];
      file.caches.main.members = [{ user: "bob", role: "View" }];
    },
    ["changed: members of cache main", "deleted: role pusher of the cache main"],
  ],
  ["a member of a cache", (file) => file.caches.main.members.pop(), ["changed: members of cache main"]],
  [
    "a member of an organization, its role, and one who has no account",
    (file) => {
      file.organizations.acme.members.splice(1);
      delete file.roles.deployer;
    },
    ["changed: members of organization acme", "deleted: role deployer of acme"],
  ],
  [
    "the cache that another rests on",
    (file) => {
      file.caches.main.upstreams.shift();
      delete file.caches.base;
    },
    ["changed: upstreams of the cache main", "deleted: cache base"],
  ],
  ["a project", (file) => delete file.projects["globex-web"], ["deleted: project web of globex"]],
  ["a base worker", (file) => delete file.workers.shared, [`deleted: base worker ${BASE_WORKER}`]],
  [
    "an organization with all that is its own",
    (file) => {
      delete file.organizations.globex;
      delete file.roles["globex-deployer"];
      file.caches.main.organizations.pop();
      file.workers.builder.organizations.pop();
    },
    [
      "deleted: organization globex",
      "deleted: role deployer of globex",
      "deleted: subscription of globex to the cache main",
      `deleted: worker ${WORKER} of globex`,
    ],
  ],
  ["a user", (file) => delete file.users.bob, ["deleted: user bob"]],
];

test("what leaves the file is deleted, and nothing else", async () => {
  await using app = await withApp();
  const file = everything();
  await apply(app, file);
  for (const [what, remove, changes] of REMOVALS) {
    remove(file);
    expect([what, changesOf(await apply(app, file))]).toEqual([what, changes]);
    expect([what, changesOf(await apply(app, file))]).toEqual([what, []]);
  }
  expect(await countRows(app)).toEqual({
    user_account: 1,
    organization: 1,
    project: 1,
    project_trigger: 3,
    project_action: 1,
    integration: 1,
    named_cache: 1,
    cache_upstream: 1,
    api_key: 1,
    worker_registration: 1,
    base_worker: 0,
    pending_member: 0,
  });
});

test("an empty file deletes all that was declared, and nothing that people made", async () => {
  await using app = await withApp();
  const human = await app.user("human");
  await app.ask("PUT", "/orgs", { token: human.token, body: { name: "own", display_name: "Own", description: "" } });
  await apply(app, everything());
  await apply(app, {});

  const rows = await countRows(app);
  expect(rows).toMatchObject({ user_account: 1, organization: 1, project: 0, named_cache: 0, api_key: 0 });
  expect(rows).toMatchObject({ integration: 0, worker_registration: 0, base_worker: 0, pending_member: 0 });
  expect((await app.ask("GET", "/orgs/own", { token: human.token })).status).toBe(200);
});

test("without deleteState, what leaves the file stays and is its people's; workers go in any case", async () => {
  await using app = await withApp();
  await apply(app, everything());
  const before = await countRows(app);
  const released = changesOf(await apply(app, {}, { deleteUnlisted: false }));
  expect(released.filter((line) => !line.startsWith("released: "))).toEqual([
    `deleted: base worker ${BASE_WORKER}`,
    `deleted: worker ${WORKER} of acme`,
    `deleted: worker ${WORKER} of globex`,
  ]);
  expect(await countRows(app)).toEqual({ ...before, worker_registration: 0, base_worker: 0, pending_member: 0 });
  expect(await listManaged(app)).toEqual([]);

  const alice = await app.db.selectFrom("user_account").select("id").where("username", "=", "alice").executeTakeFirst();
  const token = await makeSession(app.deps, alice?.id ?? "");
  const change = await app.ask("PATCH", "/projects/acme/web", { token, body: { description: "Ours now" } });
  expect(change.status).toBe(200);
  expect(changesOf(await apply(app, {}, { deleteUnlisted: true }))).toEqual([]);
});

test("what runs for a project that leaves the file is ended, and other projects' builds go on", async () => {
  await using app = await withApp();
  const { db } = app;
  const file = everything();
  await apply(app, file);
  const projects = await db.selectFrom("project").select(["id", "organization_id", "active"]).execute();
  const organizationId = projects.find(({ active }) => active)?.organization_id ?? "";
  const projectId = projects.find(({ active }) => active)?.id ?? "";
  const other = await insertProjectRow(db, { organizationId, name: "by-hand" });
  const [own, shared] = [
    await insertBuild(db, { organizationId, name: "own", status: BuildStatus.Building }),
    await insertBuild(db, { organizationId, name: "shared", status: BuildStatus.Building }),
  ];
  const evaluation = await insertEvaluationRow(db, { organizationId, projectId });
  const others = await insertEvaluationRow(db, { organizationId, projectId: other });
  for (const build of [own, shared]) await linkBuild(db, evaluation, build);
  await linkBuild(db, others, shared);
  const attempt = await insertAttempt(db, { organizationId, buildId: own });

  delete file.projects.web;
  await apply(app, file);
  expect(await db.selectFrom("build").select(["id", "status"]).orderBy("name").execute()).toEqual([
    { id: own, status: BuildStatus.Aborted },
    { id: shared, status: BuildStatus.Building },
  ]);
  expect(await db.selectFrom("evaluation").select("id").execute()).toEqual([{ id: others }]);
  expect(app.notified).toContain(`abort ${attempt}`);
});

async function countRows({ pool }: TestApp): Promise<Record<string, number>> {
  const { rows } = await pool.query<Record<string, number>>(`
    select (select count(*)::int from user_account) as user_account,
      (select count(*)::int from organization) as organization,
      (select count(*)::int from project) as project,
      (select count(*)::int from project_trigger) as project_trigger,
      (select count(*)::int from project_action) as project_action,
      (select count(*)::int from integration) as integration,
      (select count(*)::int from cache where kind = 0) as named_cache,
      (select count(*)::int from cache_upstream) as cache_upstream,
      (select count(*)::int from api_key) as api_key,
      (select count(*)::int from worker_registration) as worker_registration,
      (select count(*)::int from base_worker) as base_worker,
      (select count(*)::int from pending_member) as pending_member`);
  return rows[0] ?? {};
}

/** Tables in which rows are left that people may not change. */
async function listManaged({ pool }: TestApp): Promise<string[]> {
  const tables = await pool.query<{ name: string }>(
    "select table_name as name from information_schema.columns where column_name = 'managed' order by 1",
  );
  const left: string[] = [];
  for (const { name } of tables.rows) {
    const { rowCount } = await pool.query(`select from ${name} where managed`);
    if (rowCount !== 0) left.push(name);
  }
  return left;
}
