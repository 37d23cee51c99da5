import { afterAll, beforeAll, expect, test } from "vitest";
import { ORGANIZATION_ROLE } from "#core/domain/permissions.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  COMMIT,
  insertBuild,
  insertCacheOf,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
  linkBuild,
  newId,
} from "../support/rows.ts";

let api: BuildsApi;
let otherId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  const { admin, writer, stranger } = api;
  otherId = await insertOrganization(api.db, {
    name: "other",
    members: {
      [admin.id]: ORGANIZATION_ROLE.Admin,
      [writer.id]: ORGANIZATION_ROLE.View,
      [stranger.id]: ORGANIZATION_ROLE.Admin,
    },
  });
  await insertCacheOf(api.db, otherId);
});
afterAll(() => api[Symbol.asyncDispose]());

async function freshProject(options: { readonly managed?: boolean } = {}) {
  const name = `p-${newId()}`;
  const id = await insertProjectRow(api.db, { organizationId: api.organizationId, name, ...options });
  return { id, name, path: `/projects/acme/${name}`, newPath: `/projects/other/${name}` };
}

test("a project goes to another organization with its settings, its triggers and its evaluations", async () => {
  const { id, path, newPath } = await freshProject();
  const config = { type: "time", cron: "0 0 0 1 1 *" };
  await api.ask("POST", `${path}/triggers`, api.admin, { config });
  const evaluation = await insertEvaluationRow(api.db, {
    organizationId: api.organizationId,
    projectId: id,
    status: 5,
  });
  const moved = await api.ask("POST", `${path}/transfer`, api.admin, { organization: "other" });
  expect([moved.status, moved.message]).toEqual([200, "Project transferred to other"]);

  expect((await api.ask("GET", path)).status).toBe(404);
  expect((await api.ask("GET", newPath, api.stranger)).message).toMatchObject({ id, organization: otherId });
  expect((await api.ask("GET", `${newPath}/triggers`, api.stranger)).message).toMatchObject([{ config }]);
  expect((await api.ask("GET", `/evals/${evaluation}`, api.stranger)).status).toBe(200);
  expect((await api.ask("GET", `/evals/${evaluation}`, api.viewer)).status).toBe(404);
  api.git.resolve = async () => ({ commit: COMMIT, ref: "HEAD" });
  expect((await api.ask("POST", `${newPath}/evaluate`, api.stranger)).status).toBe(200);
  const audit = await api.db
    .selectFrom("audit_event")
    .select("organization_id")
    .where("event", "=", "project.transfer");
  const told = await audit.execute();
  expect(told.map(({ organization_id }) => organization_id).sort()).toEqual([api.organizationId, otherId].sort());
});

test("what another organization built is not restarted in its name", async () => {
  const { id, path } = await freshProject();
  const { organizationId } = api;
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId: id, status: 6 });
  const build = await insertBuild(api.db, { organizationId, name: "broken", status: 4 });
  const link = await linkBuild(api.db, evaluation, build, { outcome: 4 });
  await api.ask("POST", `${path}/transfer`, api.admin, { organization: "other" });
  const attempts = [
    api.ask("POST", `/builds/${link}`, api.stranger, { method: "restart" }),
    api.ask("POST", `${path.replace("acme", "other")}/evaluate`, api.stranger, { mode: "restart_failed" }),
  ];
  for (const answer of await Promise.all(attempts)) {
    expect([answer.status, answer.message]).toEqual([409, expect.stringContaining("start a new one")]);
  }
  const row = api.db.selectFrom("build").select("status").where("id", "=", build);
  expect(await row.executeTakeFirst()).toEqual({ status: 4 });
});

test("who may not give it, or may not make projects there, transfers nothing", async () => {
  const { id, path } = await freshProject();
  const transfer = (user: BuildsApi["admin"] | null, organization: string) =>
    api.ask("POST", `${path}/transfer`, user, { organization });
  expect((await transfer(api.viewer, "other")).status).toBe(403);
  expect((await transfer(api.writer, "other")).status).toBe(403);
  expect((await transfer(api.stranger, "other")).status).toBe(404);
  expect((await transfer(null, "other")).status).toBe(401);
  for (const name of ["unknown", "Not A Slug"]) expect((await transfer(api.admin, name)).status).toBe(404);
  const same = await transfer(api.admin, "acme");
  expect([same.status, same.code]).toEqual([400, "bad_request"]);

  // Who made it may give it, even where they may only look by now.
  const target = await insertOrganization(api.db, {
    name: "mine",
    members: { [api.viewer.id]: ORGANIZATION_ROLE.Admin },
  });
  await api.db.updateTable("project").set({ created_by: api.viewer.id }).where("id", "=", id).execute();
  expect((await transfer(api.viewer, "mine")).status).toBe(200);
  const row = api.db.selectFrom("project").select("organization_id").where("id", "=", id);
  expect(await row.executeTakeFirst()).toEqual({ organization_id: target });
});

test("nobody carries actions, which hold secrets, to where they would read and redirect them", async () => {
  const { id, path } = await freshProject();
  const config = { type: "send_web_request", url: "https://hooks.example.com/secret" };
  await api.ask("POST", `${path}/actions`, api.admin, { name: "tell", config });
  await insertOrganization(api.db, { name: "own", members: { [api.viewer.id]: ORGANIZATION_ROLE.Admin } });
  await api.db.updateTable("project").set({ created_by: api.viewer.id }).where("id", "=", id).execute();
  const refused = await api.ask("POST", `${path}/transfer`, api.viewer, { organization: "own" });
  expect([refused.status, refused.message]).toEqual([403, expect.stringContaining("`manageActions`")]);
  const moved = await api.ask("POST", `${path}/transfer`, api.admin, { organization: "other" });
  expect(moved.status).toBe(200);
});

test("a project stays while it is evaluated, where its name is taken, and where it is declared", async () => {
  const busy = await freshProject();
  await insertEvaluationRow(api.db, { organizationId: api.organizationId, projectId: busy.id, status: 3 });
  const taken = await freshProject();
  await insertProjectRow(api.db, { organizationId: otherId, name: taken.name });
  const managed = await freshProject({ managed: true });
  await insertProjectRow(api.db, { organizationId: api.organizationId, name: "build-request" });
  const cases = [
    [busy.path, 409, "conflict"],
    [taken.path, 409, "already_exists"],
    [managed.path, 403, "forbidden"],
    ["/projects/acme/build-request", 400, "bad_request"],
  ] as const;
  for (const [path, status, code] of cases) {
    const answer = await api.ask("POST", `${path}/transfer`, api.admin, { organization: "other" });
    expect([path, answer.status, answer.code]).toEqual([path, status, code]);
  }
});
