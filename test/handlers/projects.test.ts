import { afterAll, beforeAll, expect, test } from "vitest";
import { removeProject } from "#core/services/projects.ts";
import type { AppDeps } from "#handlers/app.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { insertEvaluationRow, insertOrganization, insertProjectRow, newId } from "../support/rows.ts";

let api: BuildsApi;
beforeAll(async () => {
  api = await withBuildsApi();
});
afterAll(() => api[Symbol.asyncDispose]());

const NEW = {
  name: "blog",
  display_name: "The Blog",
  description: "Words",
  repository: "https://example.com/blog.git",
  wildcard: "packages.*.*, !packages.x86_64-linux.broken",
};

test("a member with the permission makes a project and finds it as it was made", async () => {
  const made = await api.ask("PUT", "/projects/acme", api.writer, NEW);
  expect(made.status).toBe(200);

  const found = await api.ask("GET", "/projects/acme/blog", api.writer);
  expect(found.message).toEqual({
    ...NEW,
    id: made.message,
    organization: api.organizationId,
    active: true,
    last_evaluation: null,
    last_evaluation_status: null,
    force_evaluation: false,
    created_by: api.writer.id,
    created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$/),
    managed: false,
    keep_evaluations: 5,
    concurrency: "soft_abort",
    sign_cache: true,
    deploy_branch: null,
    deploy_hold: true,
    deploy_wave_percent: 100,
    deploy_soak_seconds: 0,
    can_edit: true,
    can_trigger: true,
  });
  expect((await api.ask("GET", "/projects/acme", api.viewer)).message).toMatchObject({
    items: [{ id: made.message, can_edit: false, can_trigger: false }],
    total: 1,
    page: 1,
    per_page: 50,
  });
});

test("a project begins with the deploy branch that it is given", async () => {
  const made = (deploy_branch: string) =>
    api.ask("PUT", "/projects/acme", api.writer, { ...NEW, name: "deployed", deploy_branch });
  const wrong = await made("a..b");
  expect([wrong.code, wrong.message]).toEqual(["validation", expect.stringMatching(/^deploy_branch/)]);

  expect((await made("release")).status).toBe(200);
  const { message } = await api.ask("GET", "/projects/acme/deployed", api.writer);
  expect(message).toMatchObject({ deploy_branch: "release" });
  expect((await api.ask("DELETE", "/projects/acme/deployed", api.writer)).status).toBe(200);
});

test("who lacks the permission makes, changes and deletes nothing", async () => {
  await insertProjectRow(api.db, { organizationId: api.organizationId, name: "kept" });
  const attempts = [
    api.ask("PUT", "/projects/acme", api.viewer, { ...NEW, name: "other" }),
    api.ask("PATCH", "/projects/acme/kept", api.viewer, { description: "x" }),
    api.ask("DELETE", "/projects/acme/kept", api.viewer),
    api.ask("DELETE", "/projects/acme/kept/active", api.viewer),
    api.ask("POST", "/projects/acme/kept/check-repository", api.viewer),
  ];
  for (const answer of await Promise.all(attempts)) expect([answer.status, answer.code]).toEqual([403, "forbidden"]);
  const anonymous = await api.ask("PUT", "/projects/acme", null, NEW);
  expect([anonymous.status, anonymous.code]).toEqual([401, "unauthorized"]);
});

test("to a stranger a private project, a missing one and no organization answer byte for byte alike", async () => {
  await insertProjectRow(api.db, { organizationId: api.organizationId, name: "secret" });
  const calls: [string, string, unknown?][] = [
    ["GET", ""],
    ["PATCH", "", { description: "x" }],
    ["DELETE", ""],
    ["POST", "/active"],
    ["DELETE", "/active"],
    ["POST", "/check-repository"],
    ["POST", "/evaluate", {}],
    ["GET", "/evaluations"],
    ["GET", "/details"],
    ["GET", "/entry-points"],
  ];
  for (const [method, path, body] of calls) {
    const answers = await Promise.all(
      ["acme/secret", "acme/missing", "nowhere/missing", "acme/NOT-A-NAME"].map((name) =>
        api.ask(method, `/projects/${name}${path}`, api.stranger, body),
      ),
    );
    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)), `${method} ${path}`).toEqual(
      new Set(['404 {"error":true,"code":"not_found","message":"Project not found"}']),
    );
    const member = await api.ask(method, `/projects/acme/missing${path}`, api.admin, body);
    expect(member.text).toBe(answers[0]?.text);
  }
  const lists = await Promise.all(["acme", "nowhere"].map((name) => api.ask("GET", `/projects/${name}`, null)));
  expect(lists[0]?.text).toBe(lists[1]?.text);
  expect(lists[0]?.status).toBe(404);
});

test("a public organization's projects are read by everyone, without the credentials in their repository", async () => {
  const organizationId = await insertOrganization(api.db, { name: "open", public: true });
  const repository = "https://robot:hunter2@example.com/site.git";
  const projectId = await insertProjectRow(api.db, { organizationId, repository });
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId, repository });

  for (const path of ["/projects/open", "/projects/open/site", "/projects/open/site/details", `/evals/${evaluation}`]) {
    const answer = await api.ask("GET", path, null);
    expect(answer.status).toBe(200);
    expect(answer.text).not.toContain("hunter2");
    expect(answer.text).toContain("example.com/site.git");
  }
  const change = await api.ask("PATCH", "/projects/open/site", api.stranger, {});
  expect([change.status, change.code]).toEqual([404, "not_found"]);
});

test("what a project may not be is refused with the field's name and what to write", async () => {
  const cases: [object, string, RegExp][] = [
    [{ name: "build-request" }, "invalid_name", /reserved/],
    [{ name: "available" }, "invalid_name", /reserved/],
    [{ name: "Upper" }, "invalid_name", /Project name/],
    [{ display_name: " outer " }, "invalid_name", /display_name/],
    [{ repository: "/srv/site.git" }, "validation", /repository/],
    [{ repository: "ext::sh -c id" }, "validation", /repository/],
    [{ wildcard: "packages..x" }, "validation", /wildcard/],
    [{ wildcard: "!" }, "validation", /wildcard/],
    [{ concurrency: "sometimes" }, "validation", /concurrency/],
    [{ description: "a\u0000b" }, "validation", /description/],
  ];
  for (const [change, code, words] of cases) {
    const answer = await api.ask("PUT", "/projects/acme", api.admin, { ...NEW, name: "fresh", ...change });
    expect([answer.status, answer.code, answer.message]).toEqual([400, code, expect.stringMatching(words)]);
  }
  const missing = await api.ask("PUT", "/projects/acme", api.admin, { name: "fresh" });
  expect([missing.code, missing.message]).toEqual(["validation", expect.stringContaining("repository")]);
});

test("a project's name is taken once in its organization", async () => {
  await insertProjectRow(api.db, { organizationId: api.organizationId, name: "taken" });
  await insertProjectRow(api.db, { organizationId: api.organizationId, name: "renamed" });
  const again = await api.ask("PUT", "/projects/acme", api.admin, { ...NEW, name: "taken" });
  expect([again.status, again.code]).toEqual([409, "already_exists"]);
  const renamed = await api.ask("PATCH", "/projects/acme/renamed", api.admin, { name: "taken" });
  expect([renamed.status, renamed.code]).toEqual([409, "already_exists"]);

  const available = async (name: string) =>
    (await api.ask("GET", `/projects/acme/available?name=${name}`, api.viewer)).message;
  expect([await available("taken"), await available("free"), await available("No-Slug")]).toEqual([false, true, false]);
  expect((await api.ask("GET", "/projects/acme/available?name=taken", api.stranger)).status).toBe(404);
});

test("a change keeps what it does not name, asks for an evaluation, and stays within the server's bound", async () => {
  const id = await insertProjectRow(api.db, { organizationId: api.organizationId, name: "changing" });
  const changed = await api.ask("PATCH", "/projects/acme/changing", api.admin, {
    keep_evaluations: 30,
    concurrency: "skip",
  });
  expect(changed.message).toBe(id);
  expect((await api.ask("GET", "/projects/acme/changing")).message).toMatchObject({
    keep_evaluations: 30,
    concurrency: "skip",
    wildcard: "packages.*.*",
    force_evaluation: true,
  });
  const tooMany = await api.ask("PATCH", "/projects/acme/changing", api.admin, { keep_evaluations: 31 });
  expect([tooMany.code, tooMany.message]).toEqual(["validation", expect.stringContaining("at most 30")]);
});

test("what the state file declares is changed by nobody else, and still evaluated", async () => {
  await insertProjectRow(api.db, { organizationId: api.organizationId, name: "declared", managed: true });
  for (const [method, path] of [
    ["PATCH", ""],
    ["DELETE", ""],
    ["POST", "/active"],
  ] as const) {
    expect((await api.ask(method, `/projects/acme/declared${path}`, api.admin, {})).status).toBe(403);
  }
  expect((await api.ask("POST", "/projects/acme/declared/evaluate", api.admin, {})).status).toBe(200);
});

test("a project that is switched off and on says so", async () => {
  await insertProjectRow(api.db, { organizationId: api.organizationId, name: "switched" });
  expect((await api.ask("DELETE", "/projects/acme/switched/active")).status).toBe(200);
  expect((await api.ask("GET", "/projects/acme/switched")).message.active).toBe(false);
  expect((await api.ask("POST", "/projects/acme/switched/active")).status).toBe(200);
  expect((await api.ask("GET", "/projects/acme/switched")).message.active).toBe(true);
});

test("deleting a project ends what runs for it and tells the workers", async () => {
  const projectId = await insertProjectRow(api.db, { organizationId: api.organizationId, name: "doomed" });
  const evaluation = await insertEvaluationRow(api.db, {
    organizationId: api.organizationId,
    projectId,
    status: 0,
  });
  api.notified.length = 0;
  expect((await api.ask("DELETE", "/projects/acme/doomed")).status).toBe(200);
  expect(api.notified).toContain(`work ${api.organizationId}`);
  expect((await api.ask("GET", "/projects/acme/doomed")).status).toBe(404);
  expect((await api.ask("GET", `/evals/${evaluation}`)).text).toBe((await api.ask("GET", `/evals/${newId()}`)).text);
});

test("an evaluation that begins while its project is deleted is ended too", async () => {
  const { organizationId } = api;
  const projectId = await insertProjectRow(api.db, { organizationId, name: "busy" });
  const aborted: string[] = [];
  const begin = () => insertEvaluationRow(api.db, { organizationId, projectId, status: 0 });
  const first = await begin();
  let second: string | undefined;
  const deps: AppDeps = {
    ...api.deps,
    control: {
      ...api.deps.control,
      async abort(id) {
        aborted.push(id);
        await api.deps.control.abort(id);
        second ??= await begin();
      },
    },
  };
  await removeProject(deps, api.admin.actor, { organization: "acme", project: "busy" });
  expect(aborted).toEqual([first, second]);
  expect((await api.ask("GET", "/projects/acme/busy")).status).toBe(404);
});

test("local repositories are taken only where the operator allows them", async () => {
  await using local = await withBuildsApi({ allowLocalSources: true });
  const body = { ...NEW, repository: "file:///srv/site.git" };
  expect((await local.ask("PUT", "/projects/acme", local.admin, body)).status).toBe(200);
  expect((await api.ask("PUT", "/projects/acme", api.admin, { ...body, name: "local" })).code).toBe("validation");
});

test("a server that keeps fewer evaluations than the default keeps that many of a new project", async () => {
  await using small = await withBuildsApi({ keepEvaluations: 2 });
  await small.ask("PUT", "/projects/acme", small.admin, NEW);
  expect((await small.ask("GET", "/projects/acme/blog")).message.keep_evaluations).toBe(2);
});
