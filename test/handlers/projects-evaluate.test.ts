import { setTimeout as sleep } from "node:timers/promises";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { DomainError } from "#core/errors.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  COMMIT,
  insertBuild,
  insertCacheOf,
  insertEntryPoint,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
  linkBuild,
  newId,
} from "../support/rows.ts";

let api: BuildsApi;
let cacheId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  cacheId = await insertCacheOf(api.db, api.organizationId);
});
afterAll(() => api[Symbol.asyncDispose]());
beforeEach(() => {
  api.git.resolve = async () => ({ commit: COMMIT, ref: "HEAD" });
});

async function freshProject(): Promise<{ id: string; name: string; path: string }> {
  const name = `p-${newId()}`;
  const id = await insertProjectRow(api.db, { organizationId: api.organizationId, name });
  return { id, name, path: `/projects/acme/${name}` };
}

async function evaluationsOf(projectId: string) {
  return await api.db
    .selectFrom("evaluation")
    .selectAll()
    .where("project_id", "=", projectId)
    .orderBy("ordinal")
    .execute();
}

test("evaluate queues the repository's commit, says which evaluation it is, and wakes the scheduler", async () => {
  const project = await freshProject();
  api.notified.length = 0;
  const answer = await api.ask("POST", `${project.path}/evaluate`, api.writer, {});

  const [evaluation] = await evaluationsOf(project.id);
  expect(answer.status).toBe(200);
  expect(answer.headers.get("location")).toBe(`/api/v1/evals/${evaluation?.id}`);
  expect(answer.message).toContain(COMMIT);
  expect(evaluation).toMatchObject({ status: 0, commit_hash: COMMIT, waiting_reason: null, started_by: api.writer.id });
  expect(api.notified).toEqual([`work ${api.organizationId}`, `evaluation ${evaluation?.id}`]);
  expect((await api.ask("GET", answer.headers.get("location")?.slice("/api/v1".length) ?? "")).message).toMatchObject({
    status: "Queued",
    triggered_by: "walt",
    project_name: project.name,
    previous: null,
  });
});

test("who may not trigger starts nothing, and an empty body is enough for who may", async () => {
  const project = await freshProject();
  expect((await api.ask("POST", `${project.path}/evaluate`, api.viewer, {})).status).toBe(403);
  expect(await evaluationsOf(project.id)).toEqual([]);
  expect((await api.ask("POST", `${project.path}/evaluate`, api.writer)).status).toBe(200);
});

test("twenty calls at once create one evaluation, and the others name it", async () => {
  const project = await freshProject();
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => api.ask("POST", `${project.path}/evaluate`, api.writer, {})),
  );

  const rows = await evaluationsOf(project.id);
  expect(rows).toHaveLength(1);
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
  for (const { status, code, message } of answers.filter((answer) => answer.status !== 200)) {
    expect([status, code, message]).toEqual([400, "bad_request", expect.stringContaining(rows[0]?.id ?? "none")]);
  }
});

test("a repository that cannot be reached is refused with git's own words and nothing is created", async () => {
  const project = await freshProject();
  api.git.resolve = async () => {
    throw new DomainError("repository_unreachable", "git: Could not resolve host: example.com");
  };
  const expected = [400, "repository_unreachable", "git: Could not resolve host: example.com"];
  for (const path of ["evaluate", "check-repository"]) {
    const answer = await api.ask("POST", `${project.path}/${path}`, api.writer, {});
    expect([answer.status, answer.code, answer.message]).toEqual(expected);
  }
  expect(await evaluationsOf(project.id)).toEqual([]);
});

test("check-repository answers the commit of HEAD", async () => {
  const project = await freshProject();
  expect((await api.ask("POST", `${project.path}/check-repository`, api.writer)).message).toBe(COMMIT);
});

test("without a cache that it may write to an evaluation waits and says so", async () => {
  const { id: userId } = api.admin;
  const cases = [[], [{ mode: 1 }], [{ mode: 0, active: false }], [{ mode: 2 }], [{ mode: 1 }, { mode: 0 }]];
  const expected = ["Waiting", "Waiting", "Waiting", "Queued", "Queued"];
  for (const [index, caches] of cases.entries()) {
    const name = `org-${index}`;
    const admin = "00000000-0000-0000-0000-000000000001";
    const organizationId = await insertOrganization(api.db, { name, members: { [userId]: admin } });
    for (const cache of caches) await insertCacheOf(api.db, organizationId, cache);
    await insertProjectRow(api.db, { organizationId });

    const answer = await api.ask("POST", `/projects/${name}/site/evaluate`, api.admin, {});
    const evaluation = await api.ask("GET", answer.headers.get("location")?.slice("/api/v1".length) ?? "");
    expect(evaluation.message.status).toBe(expected[index]);
    expect(evaluation.message.waiting_reason).toEqual(expected[index] === "Waiting" ? { kind: "no_cache" } : undefined);
  }
});

test("an evaluation that finds no cache waits for a subscription that is being made", async () => {
  const admin = "00000000-0000-0000-0000-000000000001";
  const organizationId = await insertOrganization(api.db, { name: "late", members: { [api.admin.id]: admin } });
  const projectId = await insertProjectRow(api.db, { organizationId });
  const call = await api.db.transaction().execute(async (trx) => {
    const subscription = { id: newId(), organization_id: organizationId, cache_id: cacheId };
    await trx.insertInto("organization_cache").values(subscription).execute();
    const started = api.ask("POST", "/projects/late/site/evaluate", api.admin, {});
    await waitForLockWait();
    return { started };
  });
  await call.started;
  expect(await evaluationsOf(projectId)).toMatchObject([{ status: 0, waiting_reason: null }]);
});

/** Until some statement on this database waits for a lock. */
async function waitForLockWait(): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (performance.now() < deadline) {
    const { rows } = await sql`
      select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`.execute(api.db);
    if (rows.length > 0) return;
    await sleep(20);
  }
  throw new Error("nobody waits for the subscription");
}

test("restarting runs what failed in a new evaluation, and is refused where nothing failed", async () => {
  const project = await freshProject();
  const restart = () => api.ask("POST", `${project.path}/evaluate`, api.writer, { mode: "restart_failed" });
  expect([(await restart()).status, (await restart()).code]).toEqual([400, "bad_request"]);

  const { organizationId } = api;
  const last = await insertEvaluationRow(api.db, { organizationId, projectId: project.id, status: 6 });
  expect((await restart()).status).toBe(400);

  const build = await insertBuild(api.db, { organizationId, name: "broken", status: 4 });
  await linkBuild(api.db, last, build, { outcome: 4 });
  await insertEntryPoint(api.db, last, build, ["packages", "x86_64-linux", "broken"]);
  const answer = await restart();
  expect(answer.status).toBe(200);
  const [, restarted] = await evaluationsOf(project.id);
  expect(answer.headers.get("location")).toBe(`/api/v1/evals/${restarted?.id}`);
  expect((await restart()).message).toContain(restarted?.id);
});

test("restarting what failed takes no branch: it is about the last evaluation", async () => {
  const project = await freshProject();
  const body = { mode: "restart_failed", branch: "main" };
  const answer = await api.ask("POST", `${project.path}/evaluate`, api.writer, body);
  expect([answer.status, answer.code, answer.message]).toEqual([
    400,
    "bad_request",
    expect.stringMatching(/^branch: /),
  ]);
});

test("an unknown mode is refused", async () => {
  const project = await freshProject();
  const answer = await api.ask("POST", `${project.path}/evaluate`, api.writer, { mode: "everything" });
  expect([answer.status, answer.code]).toEqual([400, "validation"]);
});

test("summaries, details and entry points show a project's evaluations with what each of them saw", async () => {
  const { organizationId } = api;
  const project = await freshProject();
  const old = await insertEvaluationRow(api.db, {
    organizationId,
    projectId: project.id,
    status: 6,
    commitMessage: `${"x".repeat(120)}\nbody`,
  });
  const libc = await insertBuild(api.db, { organizationId, name: "libc", status: 3 });
  const tool = await insertBuild(api.db, { organizationId, name: "tool", status: 2, needs: [libc] });
  await linkBuild(api.db, old, tool, { outcome: 4 });
  const now = await insertEvaluationRow(api.db, { organizationId, projectId: project.id });
  const links = { tool: await linkBuild(api.db, now, tool), libc: await linkBuild(api.db, now, libc) };
  await insertEntryPoint(api.db, now, tool, ["packages", "x86_64-linux", "tool-1.2"]);

  const summaries = (await api.ask("GET", `${project.path}/evaluations`)).message;
  expect(summaries.map(({ id }: { id: string }) => id)).toEqual([now, old]);
  expect(summaries[0]).toMatchObject({ total_builds: 2, builds: { completed: 1, building: 1, failed: 0 } });
  expect(summaries[1]).toMatchObject({ total_builds: 1, builds: { failed: 1 }, commit_message: "x".repeat(100) });
  expect((await api.ask("GET", `${project.path}/evaluations?limit=1`)).message).toHaveLength(1);

  const details = (await api.ask("GET", `${project.path}/details`)).message;
  expect(details.queue).toEqual({ building: 1, queued: 0 });
  expect(details.last_evaluations).toEqual(summaries);

  const points = await api.ask("GET", `${project.path}/entry-points`, api.viewer);
  expect(points.message).toMatchObject([
    {
      build_id: links.tool,
      eval: 'packages.x86_64-linux."tool-1.2"',
      build_status: "Building",
      deps: { Completed: 1 },
      deps_total: 1,
      build_time_ms: null,
    },
  ]);
  const foreign = await freshProject();
  const missing = await api.ask("GET", `${foreign.path}/entry-points?evaluation_id=${now}`);
  const unknown = await api.ask("GET", `${foreign.path}/entry-points?evaluation_id=${newId()}`);
  expect([missing.status, missing.text]).toEqual([404, unknown.text]);
  expect((await api.ask("GET", `${foreign.path}/entry-points`)).message).toEqual([]);
});
