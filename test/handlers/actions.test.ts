import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  insertAttempt,
  insertBuild,
  insertCacheOf,
  insertEvaluationRow,
  insertProjectRow,
  linkBuild,
  newId,
} from "../support/rows.ts";
import { connectWorker } from "../transitions/workers.ts";

let api: BuildsApi;
let organizationId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  organizationId = api.organizationId;
  await insertCacheOf(api.db, organizationId);
});
afterAll(() => api[Symbol.asyncDispose]());

async function project(concurrency = 1): Promise<{ id: string; evaluate: string }> {
  const name = `p-${newId()}`;
  const id = await insertProjectRow(api.db, { organizationId, name });
  await api.db.updateTable("project").set({ concurrency }).where("id", "=", id).execute();
  return { id, evaluate: `/projects/acme/${name}/evaluate` };
}

async function building(projectId: string): Promise<string> {
  const id = await insertEvaluationRow(api.db, { organizationId, projectId });
  await sql`update evaluation set building_started_at = gradient_now() where id = ${id}`.execute(api.db);
  return id;
}

async function oneBuild(status: number) {
  const evaluation = await building((await project()).id);
  const build = await insertBuild(api.db, { organizationId, name: "tool", status });
  // Something else is open, so that the evaluation goes on.
  await linkBuild(api.db, evaluation, await insertBuild(api.db, { organizationId, name: "other", status: 1 }));
  return { evaluation, build, link: await linkBuild(api.db, evaluation, build) };
}

const statusOf = async (link: string) => (await api.ask("GET", `/builds/${link}`)).message.status;

test("who may trigger evaluations aborts, restarts and puts first a build; nobody else does", async () => {
  const { link } = await oneBuild(1);
  for (const method of ["abort", "restart", "bump"]) {
    expect((await api.ask("POST", `/builds/${link}`, api.viewer, { method })).status).toBe(403);
    expect((await api.ask("POST", `/builds/${link}`, null, { method })).status).toBe(401);
    const hidden = await api.ask("POST", `/builds/${link}`, api.stranger, { method });
    const missing = await api.ask("POST", `/builds/${newId()}`, api.stranger, { method });
    expect([hidden.status, hidden.text]).toEqual([404, missing.text]);
  }
  for (const body of [{ method: "stop" }, {}, { method: "bump", priority: 11 }, { method: "bump", priority: 0.5 }]) {
    expect((await api.ask("POST", `/builds/${link}`, api.writer, body)).code).toBe("validation");
  }
  expect(await statusOf(link)).toBe("Queued");
});

test("a build is aborted and runs again", async () => {
  const { link, evaluation, build } = await oneBuild(2);
  const attempt = await insertAttempt(api.db, { organizationId, buildId: build });
  const aborted = await api.ask("POST", `/builds/${link}`, api.writer, { method: "abort" });
  expect([aborted.status, aborted.message]).toEqual([200, "The build is aborted"]);
  expect(api.notified).toContain(`abort ${attempt}`);
  expect(await statusOf(link)).toBe("Aborted");
  expect((await api.ask("POST", `/builds/${link}`, api.writer, { method: "abort" })).status).toBe(409);

  const restarted = await api.ask("POST", `/builds/${link}`, api.writer, { method: "restart" });
  expect(restarted.headers.get("location")).toBe(`/api/v1/evals/${evaluation}`);
  expect(await statusOf(link)).toBe("Queued");
  expect((await api.ask("POST", `/builds/${link}`, api.writer, { method: "restart" })).code).toBe("bad_request");
});

test("builds and evaluations show how urgent they are", async () => {
  const { link, evaluation } = await oneBuild(1);
  await api.ask("POST", `/builds/${link}`, api.writer, { method: "bump" });
  expect((await api.ask("GET", `/builds/${link}`)).message.priority).toBe(10);
  const lowered = await api.ask("POST", `/evals/${evaluation}`, api.writer, { method: "bump", priority: -3 });
  expect(lowered.message).toBe("Success");
  expect((await api.ask("GET", `/evals/${evaluation}`)).message.priority).toBe(-3);
  expect((await api.ask("POST", `/evals/${evaluation}`, api.viewer, { method: "bump" })).status).toBe(403);
});

test("a build says why it has not begun, by the same rules that give it out", async () => {
  const waiting = async (link: string) => (await api.ask("GET", `/builds/${link}`)).message.waiting_reason;
  const { link, build } = await oneBuild(1);
  expect(await waiting(link)).toEqual({
    kind: "workers",
    architecture: "x86_64-linux",
    required_features: [],
    connected_workers: 0,
    available_architectures: [],
  });
  await connectWorker(api.db, organizationId);
  expect(await waiting(link)).toMatchObject({ kind: "place" });
  await sql`update build set required_features = '{kvm}' where id = ${build}`.execute(api.db);
  expect(await waiting(link)).toMatchObject({
    kind: "workers",
    required_features: ["kvm"],
    connected_workers: 1,
    available_architectures: ["x86_64-linux"],
  });
  await sql`update build set status = 8, retry_at = '2030-01-02T03:04:05Z' where id = ${build}`.execute(api.db);
  expect(await waiting(link)).toEqual({ kind: "retry", at: "2030-01-02T03:04:05.000000" });
  await sql`update build set status = 0, retry_at = null, pending_dependencies = 3 where id = ${build}`.execute(api.db);
  expect(await waiting(link)).toEqual({ kind: "dependencies", count: 3 });
  await sql`update build set status = 2 where id = ${build}`.execute(api.db);
  expect(await waiting(link)).toBeUndefined();
});

test("builds and evaluations say when they will be done, once there is something to go by", async () => {
  const { link, evaluation } = await oneBuild(1);
  expect((await api.ask("GET", `/builds/${link}`)).message.eta).toBeNull();
  await sql`
    insert into build_history (organization_id, system, package_name, durations_ms)
    values (${organizationId}, 'x86_64-linux', 'tool', '{4000,5000,9000}')`.execute(api.db);
  expect((await api.ask("GET", `/builds/${link}`)).message.eta).toEqual({
    seconds: 5,
    seconds_p90: 9,
    open_builds: 1,
    known_builds: 1,
  });
  const { eta } = (await api.ask("GET", `/evals/${evaluation}`)).message;
  expect(eta).toMatchObject({ open_builds: 2, known_builds: 1 });
});

test("what a new evaluation does about one that goes on is what the project says, or who asks", async () => {
  const evaluate = async (concurrency: unknown, policy: number) => {
    const { id, evaluate: path } = await project(policy);
    const older = await building(id);
    const build = await insertBuild(api.db, { organizationId, name: "tool", status: 1 });
    await linkBuild(api.db, older, build);
    const answer = await api.ask("POST", path, api.writer, { concurrency });
    const row = await api.db.selectFrom("build").select("status").where("id", "=", build).executeTakeFirstOrThrow();
    const { status } = (await api.ask("GET", `/evals/${older}`)).message;
    return { answer: answer.status, older: status, build: row.status, text: answer.text.includes(older) };
  };
  const [hard, soft, all, skip] = [0, 1, 2, 3];
  const aborted = { answer: 200, older: "Aborted", build: 5, text: true };
  const kept = { answer: 200, older: "Aborted", build: 1, text: true };
  const beside = { answer: 200, older: "Building", build: 1, text: false };
  const refused = { answer: 400, older: "Building", build: 1, text: true };
  expect(await evaluate("project", hard)).toEqual(aborted);
  expect(await evaluate("project", soft)).toEqual(kept);
  expect(await evaluate("project", all)).toEqual(beside);
  expect(await evaluate("project", skip)).toEqual(refused);
  expect(await evaluate("hard_abort", skip)).toEqual(aborted);
  expect(await evaluate("soft_abort", skip)).toEqual(kept);
  expect(await evaluate("all", skip)).toEqual(beside);
  expect(await evaluate("skip", hard)).toEqual(refused);
  expect(await evaluate(undefined, hard)).toEqual(refused);
  expect((await evaluate("sometimes", hard)).answer).toBe(400);
});

test("evaluations that run beside others are neither in the way nor given up", async () => {
  const { id, evaluate } = await project(2);
  const post = async (concurrency: string) =>
    (await api.ask("POST", evaluate, api.writer, { concurrency })).headers.get("location")?.split("/").at(-1) as string;
  const first = await post("all");
  const second = await post("all");
  const plain = await post("skip");
  await post("hard_abort");
  const states = await api.db.selectFrom("evaluation").select(["id", "status"]).where("project_id", "=", id).execute();
  const active = states.filter(({ status }) => status === 0).map((row) => row.id);
  expect(active).toEqual(expect.arrayContaining([first, second]));
  expect(active).toHaveLength(3);
  expect(active).not.toContain(plain);
});

test("twenty new evaluations at once leave one that goes on", async () => {
  const { id, evaluate } = await project(0);
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => api.ask("POST", evaluate, api.writer, { concurrency: "project" })),
  );
  expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
  const rows = await api.db.selectFrom("evaluation").select("status").where("project_id", "=", id).execute();
  expect(rows).toHaveLength(20);
  expect(rows.filter(({ status }) => status === 0)).toHaveLength(1);
});

test("an evaluation that waits for approval begins when a member gives it", async () => {
  const { id: projectId } = await project();
  const id = await insertEvaluationRow(api.db, { organizationId, projectId, status: 4 });
  const reason = { kind: "approval", pr_number: 7, pr_author: "eve" };
  await sql`update evaluation set waiting_reason = ${JSON.stringify(reason)}::jsonb where id = ${id}`.execute(api.db);
  expect((await api.ask("GET", `/evals/${id}`)).message.waiting_reason).toEqual(reason);
  expect((await api.ask("POST", `/evals/${id}`, api.viewer, { method: "approve" })).status).toBe(403);
  expect((await api.ask("POST", `/evals/${id}`, api.writer, { method: "approve" })).status).toBe(200);
  expect((await api.ask("GET", `/evals/${id}`)).message).toMatchObject({ status: "Queued" });
  expect((await api.ask("POST", `/evals/${id}`, api.writer, { method: "approve" })).status).toBe(409);
});
