import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  insertAttempt,
  insertBuild,
  insertEntryPoint,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
  linkBuild,
  newId,
} from "../support/rows.ts";

let api: BuildsApi;
let organizationId: string;
let projectId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  organizationId = api.organizationId;
  projectId = await insertProjectRow(api.db, { organizationId });
});
afterAll(() => api[Symbol.asyncDispose]());

async function evaluation(status?: number): Promise<string> {
  return await insertEvaluationRow(api.db, { organizationId, projectId, ...(status !== undefined && { status }) });
}

test("to whom it is not theirs an evaluation looks exactly like one that does not exist", async () => {
  const id = await evaluation();
  const calls: [string, string, unknown?][] = [
    ["GET", ""],
    ["POST", "", { method: "abort" }],
    ["GET", "/builds"],
    ["GET", "/messages"],
    ["GET", "/live"],
  ];
  for (const [method, path, body] of calls) {
    const hidden = await api.ask(method, `/evals/${id}${path}`, api.stranger, body);
    const missing = await api.ask(method, `/evals/${newId()}${path}`, api.stranger, body);
    expect([hidden.status, hidden.text], `${method} ${path}`).toEqual([404, missing.text]);
    const anonymous = await api.ask(method, `/evals/${id}${path}`, null, body);
    expect([anonymous.status, anonymous.text]).toEqual(method === "GET" ? [404, missing.text] : [401, anonymous.text]);
  }
  expect((await api.ask("GET", `/evals/${id}`, api.viewer)).status).toBe(200);
  expect((await api.ask("GET", "/evals/not-an-id")).code).toBe("validation");
});

test("an evaluation shows its neighbours, its entry points, its messages and why it failed", async () => {
  const before = await evaluation(5);
  const id = await evaluation(6);
  const after = await evaluation(0);
  await api.db.updateTable("evaluation").set({ failure: "the flake has no outputs" }).where("id", "=", id).execute();
  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 3 });
  await linkBuild(api.db, id, build, { outcome: 4 });
  const point = await insertEntryPoint(api.db, id, build, ["checks", "a.b"]);
  const source = { evaluation_id: id, source: "nix-eval" };
  for (const message of [
    { ...source, id: newId(), level: 0, message: "attribute 'x' is missing", attribute: ["checks", "a.b"] },
    { ...source, id: newId(), level: 1, message: "deprecated", attribute: null },
  ]) {
    await api.db.insertInto("evaluation_message").values(message).execute();
  }

  expect((await api.ask("GET", `/evals/${id}`)).message).toMatchObject({
    id,
    project: projectId,
    project_name: "site",
    status: "Failed",
    previous: before,
    next: after,
    error: "the flake has no outputs",
    error_count: 1,
    warning_count: 1,
    entry_points: [{ id: point, eval: 'checks."a.b"', build_status: "FailedPermanent" }],
    trigger: null,
    triggered_by: null,
  });
  expect((await api.ask("GET", `/evals/${id}/messages`, api.viewer)).message).toMatchObject([
    { level: "Error", message: "attribute 'x' is missing", source: "nix-eval", entry_points: ['checks."a.b"'] },
    { level: "Warning", message: "deprecated", entry_points: [] },
  ]);
});

test("abort ends an active evaluation for a member who may trigger, and for nobody else", async () => {
  const id = await evaluation(0);
  expect((await api.ask("POST", `/evals/${id}`, api.viewer, { method: "abort" })).status).toBe(403);
  expect((await api.ask("GET", `/evals/${id}`)).message.status).toBe("Queued");

  const aborted = await api.ask("POST", `/evals/${id}`, api.writer, { method: "abort" });
  expect(aborted.text).toBe('{"error":false,"message":"Success"}');
  expect((await api.ask("GET", `/evals/${id}`)).message.status).toBe("Aborted");
  expect((await api.ask("POST", `/evals/${id}`, api.writer, { method: "abort" })).status).toBe(409);
});

test("an unknown method of an evaluation is refused and does nothing", async () => {
  const id = await evaluation(0);
  for (const body of [{ method: "pause" }, {}, { method: 7 }]) {
    expect((await api.ask("POST", `/evals/${id}`, api.writer, body)).code).toBe("validation");
  }
  expect((await api.ask("GET", `/evals/${id}`)).message.status).toBe("Queued");
});

test("builds come in the order of their urgency and then by name, with what the evaluation saw of them", async () => {
  const id = await evaluation();
  const states: [string, number, number?][] = [
    ["z-building", 2],
    ["b-created", 0],
    ["a-queued", 1],
    ["c-transient", 8],
    ["d-failed", 4],
    ["e-timeout", 9],
    ["f-aborted", 5],
    ["g-dependency", 6],
    ["h-done", 3],
    ["i-substituted", 7],
    // Ran again for a later evaluation: this one keeps the failure that it saw.
    ["dd-retried", 2, 4],
  ];
  for (const [name, status, outcome] of states) {
    const build = await insertBuild(api.db, { organizationId, name, status });
    await linkBuild(api.db, id, build, outcome === undefined ? {} : { outcome });
  }
  const { builds, total, active_count } = (await api.ask("GET", `/evals/${id}/builds`, api.viewer)).message;
  const names = builds.map(({ name, status }: { name: string; status: string }) => [name.split("-0")[0], status]);
  expect(names).toEqual([
    ["z-building", "Building"],
    ["a-queued", "Queued"],
    ["b-created", "Queued"],
    ["c-transient", "FailedTransient"],
    ["d-failed", "FailedPermanent"],
    ["dd-retried", "FailedPermanent"],
    ["e-timeout", "FailedTimeout"],
    ["f-aborted", "Aborted"],
    ["g-dependency", "DependencyFailed"],
    ["h-done", "Completed"],
    ["i-substituted", "Substituted"],
  ]);
  expect([total, active_count]).toEqual([11, 4]);

  const page = (await api.ask("GET", `/evals/${id}/builds?limit=2&offset=3`)).message;
  expect(page.builds).toEqual(builds.slice(3, 5));
  expect(page.total).toBe(11);
  expect((await api.ask("GET", `/evals/${id}/builds?limit=-1`)).code).toBe("validation");
});

test("a scope narrows the list to a build and everything it needs, and must be a build of the evaluation", async () => {
  const id = await evaluation();
  const libc = await insertBuild(api.db, { organizationId, name: "libc", status: 3 });
  const shell = await insertBuild(api.db, { organizationId, name: "shell", needs: [libc] });
  const tool = await insertBuild(api.db, { organizationId, name: "tool", needs: [shell] });
  const other = await insertBuild(api.db, { organizationId, name: "other", needs: [libc] });
  const [, , root] = await Promise.all([libc, shell, tool, other].map((build) => linkBuild(api.db, id, build)));
  // 40 days, which 32 bits of milliseconds do not hold.
  const ranMs = 3_456_000_000;
  const attempt = await insertAttempt(api.db, { organizationId, buildId: libc, ranMs });

  const { builds, total } = (await api.ask("GET", `/evals/${id}/builds?scope=${root}`)).message;
  expect(builds.map(({ name }: { name: string }) => name.split("-")[0])).toEqual(["shell", "tool", "libc"]);
  expect([total, builds[2].build_time_ms, attempt.length]).toEqual([3, ranMs, 36]);

  const foreign = await linkBuild(api.db, await evaluation(), other);
  const answers = await Promise.all(
    [foreign, newId()].map((scope) => api.ask("GET", `/evals/${id}/builds?scope=${scope}`)),
  );
  expect(answers[0]?.status).toBe(404);
  expect(answers[0]?.text).toBe(answers[1]?.text);
});

test("a key of one organization opens nothing of another", async () => {
  const key = await api.ask("POST", "/user/keys", api.admin, {
    name: "pinned",
    permissions: ["viewOrg", "triggerEvaluation"],
    organization: "acme",
  });
  expect(key.status).toBe(200);
  const foreignId = await insertOrganization(api.db, {
    name: "foreign",
    members: { [api.admin.id]: "00000000-0000-0000-0000-000000000001" },
  });
  const foreignProject = await insertProjectRow(api.db, { organizationId: foreignId });
  const foreign = await insertEvaluationRow(api.db, { organizationId: foreignId, projectId: foreignProject });
  const own = await evaluation(0);

  const withKey = { ...api.admin, token: key.message as string };
  expect((await api.ask("GET", `/evals/${own}`, withKey)).status).toBe(200);
  expect((await api.ask("GET", `/evals/${foreign}`, withKey)).status).toBe(404);
  expect((await api.ask("GET", `/evals/${foreign}`, api.admin)).status).toBe(200);
});
