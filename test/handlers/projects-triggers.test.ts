import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DomainError } from "#core/errors.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  COMMIT,
  insertCacheOf,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
  newId,
} from "../support/rows.ts";

let api: BuildsApi;
beforeAll(async () => {
  api = await withBuildsApi();
  await insertCacheOf(api.db, api.organizationId);
});
afterAll(() => api[Symbol.asyncDispose]());

const POLLING = { type: "polling", interval_secs: 600, branch: null };

async function freshProject(options: { readonly managed?: boolean } = {}): Promise<{ id: string; path: string }> {
  const name = `p-${newId()}`;
  const id = await insertProjectRow(api.db, { organizationId: api.organizationId, name, ...options });
  return { id, path: `/projects/acme/${name}` };
}

async function insertIntegration(organizationId: string, kind: number): Promise<string> {
  const id = newId();
  const name = `integration-${id}`;
  await api.db
    .insertInto("integration")
    .values({ id, organization_id: organizationId, kind, forge_type: 1, name, display_name: "Our Forgejo" })
    .execute();
  return id;
}

test("a new project is looked at every five minutes", async () => {
  const body = {
    name: "fresh",
    display_name: "Fresh",
    repository: "https://example.com/x.git",
    wildcard: "packages.*.*",
  };
  const id = (await api.ask("PUT", "/projects/acme", api.writer, body)).message;
  const { message } = await api.ask("GET", "/projects/acme/fresh/triggers", api.viewer);
  expect(message).toEqual([
    {
      id: expect.any(String),
      project: id,
      type: "polling",
      config: { type: "polling", interval_secs: 300, branch: null },
      active: true,
      last_fired_at: null,
      last_checked_at: null,
      next_check_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$/),
      last_error: null,
      created_at: expect.any(String),
      updated_at: expect.any(String),
      integration: null,
    },
  ]);
});

test("triggers are made, shown, changed and removed by who may manage them", async () => {
  const { path } = await freshProject();
  const made = await api.ask("POST", `${path}/triggers`, api.writer, { config: POLLING });
  expect([made.status, made.message.config, made.message.active]).toEqual([200, POLLING, true]);
  const { id } = made.message;
  expect((await api.ask("GET", `${path}/triggers/${id}`, api.viewer)).message).toEqual(made.message);

  const config = { type: "time", cron: "0 30 4 * * mon" };
  const changed = await api.ask("PATCH", `${path}/triggers/${id}`, api.writer, { config, active: false });
  expect(changed.message).toMatchObject({ id, type: "time", config, active: false, next_check_at: null });
  expect((await api.ask("PATCH", `${path}/triggers/${id}`, api.writer, {})).message).toMatchObject({ config });

  expect((await api.ask("DELETE", `${path}/triggers/${id}`, api.writer)).status).toBe(200);
  expect((await api.ask("GET", `${path}/triggers`, api.writer)).message).toEqual([]);
  for (const method of ["GET", "PATCH", "DELETE"]) {
    const answer = await api.ask(method, `${path}/triggers/${id}`, api.writer, method === "PATCH" ? {} : undefined);
    expect([method, answer.status, answer.message]).toEqual([method, 404, "Trigger not found"]);
  }
});

test("what lacks is filled in, and what no trigger has is refused with words", async () => {
  const { path } = await freshProject();
  const { message } = await api.ask("POST", `${path}/triggers`, api.admin, { config: { type: "polling" } });
  expect(message.config).toEqual({ type: "polling", interval_secs: 300, branch: null });

  const cases: [unknown, string, RegExp][] = [
    [{ type: "polling", interval_secs: 9 }, "validation", /interval_secs: must be a whole number from 10/],
    [{ type: "polling", branch: "-x" }, "bad_request", /branch/],
    [{ type: "polling", branch: "a..b" }, "bad_request", /branch/],
    [{ type: "time", cron: "0 4 * * *" }, "bad_request", /config\.cron: six fields/],
    [{ type: "time", cron: "0 0 0 30 2 *" }, "bad_request", /no such day/],
    [{ type: "time" }, "validation", /cron: is missing/],
    [{ type: "manual" }, "validation", /config\.type: expected .*polling.*but received "manual"/],
    [{ type: "reporter_push", integration_id: "x" }, "validation", /integration_id: must be a UUID/],
    [{ type: "reporter_push", integration_id: newId() }, "bad_request", /no inbound integration/],
  ];
  for (const [config, code, words] of cases) {
    const answer = await api.ask("POST", `${path}/triggers`, api.admin, { config });
    expect([answer.status, answer.code, answer.message]).toEqual([400, code, expect.stringMatching(words)]);
  }
});

test("what is no text becomes some, and no fault of the server", async () => {
  const { path } = await freshProject();
  const integration_id = await insertIntegration(api.organizationId, 0);
  const config = { type: "reporter_push", integration_id, branches: ["a\ud800b"] };
  const { message } = await api.ask("POST", `${path}/triggers`, api.writer, { config });
  expect(message.config.branches).toEqual(["a\ufffdb"]);
  const { status } = await api.ask("PATCH", `${path}/triggers/${message.id}`, api.writer, { config });
  expect(status).toBe(200);
});

test("what a forge reports names an inbound integration of the same organization", async () => {
  const { path } = await freshProject();
  const inbound = await insertIntegration(api.organizationId, 0);
  const outbound = await insertIntegration(api.organizationId, 1);
  const elsewhere = await insertIntegration(await insertOrganization(api.db, { name: "elsewhere" }), 0);
  const configs = [
    { type: "reporter_push", branches: ["main", "release-*"], tags: [], releases_only: false },
    {
      type: "reporter_pull_request",
      branches: [],
      actions: ["opened", "synchronize", "reopened"],
      require_approval: true,
    },
  ];
  for (const config of configs) {
    const { type } = config;
    const stored = { ...config, integration_id: inbound };
    const given = type === "reporter_push" ? stored : { type, integration_id: inbound };
    const { message } = await api.ask("POST", `${path}/triggers`, api.writer, { config: given });
    expect(message).toMatchObject({
      type,
      config: stored,
      next_check_at: null,
      integration: { id: inbound, display_name: "Our Forgejo", forge_type: "forgejo" },
    });
    for (const integration_id of [outbound, elsewhere]) {
      const refused = await api.ask("POST", `${path}/triggers`, api.writer, { config: { type, integration_id } });
      expect([refused.status, refused.code]).toEqual([400, "bad_request"]);
    }
  }
  await api.db.deleteFrom("integration").where("id", "=", inbound).execute();
  const left = await api.ask("GET", `${path}/triggers`, api.writer);
  expect(left.message.map(({ integration }: { integration: unknown }) => integration)).toEqual([null, null]);
});

test("who may only look changes nothing, and a stranger learns nothing", async () => {
  const { path } = await freshProject();
  const { id } = (await api.ask("POST", `${path}/triggers`, api.admin, { config: POLLING })).message;
  const attempts: [string, string, unknown?][] = [
    ["POST", `${path}/triggers`, { config: POLLING }],
    ["PATCH", `${path}/triggers/${id}`, { active: false }],
    ["DELETE", `${path}/triggers/${id}`],
    ["POST", `${path}/triggers/${id}/test`],
  ];
  for (const [method, address, body] of attempts) {
    expect((await api.ask(method, address, api.viewer, body)).status).toBe(403);
    expect((await api.ask(method, address, api.stranger, body)).status).toBe(404);
    expect((await api.ask(method, address, null, body)).status).toBe(401);
  }
  expect((await api.ask("GET", `${path}/triggers`, api.stranger)).status).toBe(404);
  expect((await api.ask("GET", `${path}/triggers`, null)).status).toBe(401);
});

test("triggers of a managed project may be changed", async () => {
  const { path } = await freshProject({ managed: true });
  expect((await api.ask("POST", `${path}/triggers`, api.writer, { config: POLLING })).status).toBe(200);
});

test("a test does what the trigger would do, at once and for the person who asked", async () => {
  const { id: projectId, path } = await freshProject();
  const { id } = (await api.ask("POST", `${path}/triggers`, api.admin, { config: POLLING })).message;
  const test = async (trigger: string) =>
    (await api.ask("POST", `${path}/triggers/${trigger}/test`, api.writer)).message;
  const created = await test(id);
  expect(created).toEqual({ outcome: "Created", evaluation_id: expect.any(String) });
  const evaluation = await api.ask("GET", `/evals/${created.evaluation_id}`);
  expect(evaluation.message).toMatchObject({ commit: COMMIT, trigger: { id, type: "polling" }, triggered_by: "walt" });
  expect(await test(id)).toEqual({ outcome: "SkippedSameCommit" });

  const config = { type: "time", cron: "0 0 0 1 1 *" };
  const time = (await api.ask("POST", `${path}/triggers`, api.admin, { config })).message.id;
  await api.ask("PATCH", path, api.admin, { concurrency: "skip" });
  expect(await test(time)).toEqual({ outcome: "SkippedConcurrency" });
  await api.db.updateTable("evaluation").set({ status: 5 }).where("project_id", "=", projectId).execute();
  expect(await test(time)).toMatchObject({ outcome: "Created" });
  expect((await api.ask("GET", `${path}/triggers/${time}`)).message.last_fired_at).not.toBeNull();

  await api.ask("PATCH", `${path}/triggers/${id}`, api.admin, { active: false });
  const off = await api.ask("POST", `${path}/triggers/${id}/test`, api.writer);
  expect([off.status, off.code]).toEqual([400, "bad_request"]);
});

test("a commit that somebody begins to evaluate at this moment is not evaluated beside", async () => {
  const { id: projectId, path } = await freshProject();
  const { id } = (await api.ask("POST", `${path}/triggers`, api.admin, { config: POLLING })).message;
  const call = await api.db.transaction().execute(async (trx) => {
    await trx.selectFrom("project").select("id").where("id", "=", projectId).forUpdate().execute();
    const answer = api.ask("POST", `${path}/triggers/${id}/test`, api.writer);
    await waitForLockWait();
    await insertEvaluationRow(trx, { organizationId: api.organizationId, projectId });
    return { answer };
  });
  expect((await call.answer).message).toEqual({ outcome: "SkippedSameCommit" });
});

/** Until some statement on this database waits for a lock. */
async function waitForLockWait(): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (performance.now() < deadline) {
    const { rows } = await sql`
      select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`.execute(api.db);
    if (rows.length > 0) return;
    await sleep(20);
  }
  throw new Error("nobody waits for the project");
}

test("an evaluation keeps the type of a trigger that is gone, and shows none", async () => {
  const { path } = await freshProject();
  const { id } = (await api.ask("POST", `${path}/triggers`, api.admin, { config: POLLING })).message;
  const { evaluation_id } = (await api.ask("POST", `${path}/triggers/${id}/test`, api.writer)).message;
  await api.ask("DELETE", `${path}/triggers/${id}`, api.writer);
  expect((await api.ask("GET", `/evals/${evaluation_id}`)).message.trigger).toBeNull();
  const row = api.db.selectFrom("evaluation").select(["trigger_id", "trigger_type"]).where("id", "=", evaluation_id);
  expect(await row.executeTakeFirst()).toEqual({ trigger_id: null, trigger_type: 0 });
});

test("a test of a repository that does not answer says so", async () => {
  const { path } = await freshProject();
  const { id } = (await api.ask("POST", `${path}/triggers`, api.admin, { config: POLLING })).message;
  const { resolve } = api.git;
  api.git.resolve = async () => {
    throw new DomainError("repository_unreachable", "the repository cannot be read: gone");
  };
  const answer = await api.ask("POST", `${path}/triggers/${id}/test`, api.writer);
  api.git.resolve = resolve;
  expect([answer.status, answer.code]).toEqual([400, "repository_unreachable"]);
});

test("a project has at most 64 triggers", async () => {
  const { path } = await freshProject();
  for (let i = 0; i < 64; i++) await api.ask("POST", `${path}/triggers`, api.admin, { config: POLLING });
  const answer = await api.ask("POST", `${path}/triggers`, api.admin, { config: POLLING });
  expect([answer.status, answer.message]).toEqual([400, expect.stringContaining("at most 64 triggers")]);
});
