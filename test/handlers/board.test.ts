import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { DispatchedJob } from "#core/api/board.ts";
import { ORGANIZATION_ROLE } from "#core/domain/permissions.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  insertAttempt,
  insertBuild,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
  linkBuild,
  newId,
} from "../support/rows.ts";

let api: BuildsApi;
beforeAll(async () => {
  api = await withBuildsApi();
});
afterAll(() => api[Symbol.asyncDispose]());

const SCORE = {
  total: 25.5,
  rules: { waiting: 30, load: -4.5 },
  job: { waitedMs: 30_000, dependents: 0 },
  worker: { usedShare: 0.1 },
  instance: { shareAhead: 0, candidates: 3 },
};

async function runningBuild(organizationId: string, name: string) {
  const projectId = await insertProjectRow(api.db, { organizationId, name: `p-${newId()}` });
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const build = await insertBuild(api.db, { organizationId, name, status: 2 });
  const link = await linkBuild(api.db, evaluation, build);
  const attempt = await insertAttempt(api.db, { organizationId, buildId: build });
  await api.db
    .updateTable("attempt")
    .set({ score: JSON.stringify(SCORE) })
    .where("id", "=", attempt)
    .execute();
  return { evaluation, build, link, attempt };
}

test("a dispatched job says why its worker was chosen, to whom it is theirs", async () => {
  const { attempt, link, evaluation } = await runningBuild(api.organizationId, "hello-2.12");
  const answer = await api.ask("GET", `/board/jobs/${attempt}`, api.viewer);
  expect(answer.message).toMatchObject({
    id: attempt,
    kind: 1,
    organization: api.organizationId,
    organization_name: "acme",
    worker_id: expect.any(String),
    score: 25.5,
    build_id: link,
    evaluation_id: evaluation,
    pname: "hello",
    score_breakdown: [
      { rule: "waiting", score: 30 },
      { rule: "load", score: -4.5 },
    ],
    job_context: SCORE.job,
    worker_context: SCORE.worker,
    instance_context: SCORE.instance,
    previous_attempts: [],
  });
  const waited = Date.parse(answer.message.dispatched_at) - Date.parse(answer.message.queued_at);
  expect(waited).toBe(30_000);
  expect((await api.ask("GET", `/builds/${link}`)).message.job).toBe(attempt);

  const hidden = await api.ask("GET", `/board/jobs/${attempt}`, api.stranger);
  const missing = await api.ask("GET", `/board/jobs/${newId()}`, api.stranger);
  expect([hidden.status, hidden.text]).toEqual([404, missing.text]);
});

test("earlier attempts of the same build are listed with how they ended", async () => {
  const { attempt, build } = await runningBuild(api.organizationId, "twice");
  await sql`
    update attempt set finished_at = assigned_at, outcome = 3, reason = 2, message = 'disk full'
    where id = ${attempt}`.execute(api.db);
  const again = await insertAttempt(api.db, { organizationId: api.organizationId, buildId: build });
  const { message } = await api.ask("GET", `/board/jobs/${again}`);
  expect(message.score).toBeNull();
  expect(message.previous_attempts).toEqual([
    {
      dispatched_job_id: attempt,
      outcome: 3,
      reason: 2,
      failure_message: "disk full",
      created_at: expect.stringMatching(/\+00:00$/),
    },
  ]);
});

test("jobs of others are counted and not shown; the public ones are, without their workers", async () => {
  const open = await insertOrganization(api.db, { name: "open", public: true });
  const shown = await runningBuild(open, "shown");
  const own = await runningBuild(api.organizationId, "own");
  const ids = (jobs: readonly DispatchedJob[]) => jobs.map(({ id }) => id);

  const { message } = await api.ask("GET", "/board/jobs/dispatched", null);
  expect(ids(message.jobs)).toEqual([shown.attempt]);
  expect(message.jobs[0].worker_id).toBeNull();
  expect(message.other_running).toBeGreaterThan(0);
  const member = (await api.ask("GET", "/board/jobs/dispatched", api.viewer)).message;
  expect(ids(member.jobs)).toEqual(expect.arrayContaining([own.attempt, shown.attempt]));
  expect(member.other_running).toBe(0);
  const superuser = { ...api.stranger };
  await api.db.updateTable("user_account").set({ superuser: true }).where("id", "=", superuser.id).execute();
  expect(ids((await api.ask("GET", "/board/jobs/dispatched", superuser)).message.jobs)).toContain(own.attempt);
  await api.db.updateTable("user_account").set({ superuser: false }).where("id", "=", superuser.id).execute();
});

test("a key shows jobs where it may view its organization, and nowhere else", async () => {
  const { attempt } = await runningBuild(api.organizationId, "keyed");
  await insertOrganization(api.db, { name: "elsewhere", members: { [api.admin.id]: ORGANIZATION_ROLE.Admin } });
  const statusWith = async (key: object): Promise<number> => {
    const { message } = await api.ask("POST", "/user/keys", api.admin, { name: `key ${newId()}`, ...key });
    return (await api.ask("GET", `/board/jobs/${attempt}`, { ...api.admin, token: message })).status;
  };
  expect(await statusWith({ permissions: ["viewOrg"] })).toBe(200);
  expect(await statusWith({ permissions: ["viewOrg"], organization: "acme" })).toBe(200);
  expect(await statusWith({ permissions: ["triggerEvaluation"] })).toBe(404);
  expect(await statusWith({ permissions: ["viewOrg"], organization: "elsewhere" })).toBe(404);
});

test("what could begin is listed, queued evaluations first and the longest ready next", async () => {
  const { organizationId } = api;
  const projectId = await insertProjectRow(api.db, { organizationId, name: "pending" });
  const queued = await insertEvaluationRow(api.db, { organizationId, projectId, status: 0 });
  const young = await insertBuild(api.db, { organizationId, name: "young", status: 1 });
  const old = await insertBuild(api.db, { organizationId, name: "old-1.0", status: 1, needs: [young] });
  await sql`update build set ready_at = now() - interval '1 hour' where id = ${old}`.execute(api.db);
  const link = await linkBuild(api.db, queued, old);

  const { message } = await api.ask("GET", "/board/jobs/pending", api.viewer);
  expect(message.jobs[0]).toMatchObject({ kind: 0, evaluation_id: queued, build_id: null, dependency_count: 0 });
  expect(message.jobs[1]).toMatchObject({ kind: 1, build_id: link, pname: "old", dependency_count: 1 });
  expect(message.jobs[2]).toMatchObject({ kind: 1, pname: "young", build_id: null });
  expect((await api.ask("GET", "/board/jobs/pending", api.stranger)).message).toEqual({ jobs: [], other_pending: 2 });
});

test("the rules explain themselves, and a summary says what they gave", async () => {
  const rules = (await api.ask("GET", "/board/scoring/rules", null)).message;
  expect(rules).toContainEqual({ rule: "waiting", description: expect.stringContaining("second") });

  const { message } = await api.ask("GET", "/board/scoring/summary?window_hours=1&limit=100");
  expect(message).toMatchObject({ score_min: 25.5, score_max: 25.5 });
  expect(message.sample_size).toBeGreaterThan(0);
  expect(message.histogram).toHaveLength(12);
  expect(message.rules).toContainEqual({ rule: "load", avg: -4.5, min: -4.5, max: -4.5 });
  expect((await api.ask("GET", "/board/scoring/summary", null)).message.sample_size).toBe(1);
  expect((await api.ask("GET", "/board/scoring/summary?limit=x")).code).toBe("validation");
});
