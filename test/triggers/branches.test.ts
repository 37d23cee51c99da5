import { afterAll, beforeAll, expect, test } from "vitest";
import type { TriggerConfig } from "#core/api/triggers.ts";
import { type IpNetwork, parseIpNetwork } from "#core/domain/ip-address.ts";
import { BuildStatus, EvaluationStatus } from "#core/domain/states.ts";
import { createGitRemote } from "#runtime/node/git-remote.ts";
import { type BuildsApi, withBuildsApi } from "#test/support/builds-api.ts";
import { type GitServer, git, withGitServer } from "#test/support/git.ts";
import { buildHosts } from "#test/support/hosts.ts";
import { insertCacheOf } from "#test/support/rows.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { dueTrigger, endEvaluationsOf, evaluationsOf, look, makeDue, makeRepository } from "./support.ts";

const POLLING: TriggerConfig = { type: "polling", interval_secs: 10, branch: null };
const TIME: TriggerConfig = { type: "time", cron: "0 0 3 * * *" };

let api: BuildsApi;
let folder: TemporaryFolder;
let state: TemporaryFolder;
let server: GitServer;
let count = 0;
beforeAll(async () => {
  api = await withBuildsApi();
  await insertCacheOf(api.db, api.organizationId);
  folder = await withTemporaryFolder();
  state = await withTemporaryFolder();
  server = await withGitServer(folder.path);
  const outbound = { allowed: [parseIpNetwork("127.0.0.1/32") as IpNetwork], privateAllowed: true };
  const remote = createGitRemote({ allowLocal: false, outbound, folder: state.path });
  api.git.resolve = (...args) => remote.resolve(...args);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
  await state[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
});

async function watched(config: TriggerConfig) {
  const name = `repository-${count++}`;
  const repository = await makeRepository(folder.path, name);
  const url = `${server.url}/${name}/.git`;
  const trigger = await dueTrigger(api.deps, { organizationId: api.organizationId, repository: url }, config);
  const project = { id: trigger.projectId, path: `/projects/acme/${trigger.projectName}` };
  const lookAgain = async () => {
    await makeDue(api.deps, trigger.id);
    await look(api.deps, trigger.id);
  };
  return { ...trigger, ...project, repository, lookAgain };
}

const branches = async (projectId: string) =>
  (await evaluationsOf(api.deps, projectId)).map(({ branch, deploys }) => [branch, deploys]);

test("whatever begins an evaluation of the repository, its branch is known, and the default one by that", async () => {
  const { id, path, repository, lookAgain } = await watched(POLLING);
  await repository.commit();
  await lookAgain();
  expect(await branches(id)).toEqual([["main", true]]);
  await endEvaluationsOf(api.deps, id);
  await repository.commit("release");
  expect((await api.ask("POST", `${path}/evaluate`, api.writer, {})).status).toBe(200);
  await endEvaluationsOf(api.deps, id);
  expect((await api.ask("POST", `${path}/evaluate`, api.writer, { branch: "release" })).status).toBe(200);
  expect(await branches(id)).toEqual([
    ["main", true],
    ["main", true],
    ["release", true],
  ]);
  const row = await api.db.selectFrom("project").select("default_branch").where("id", "=", id).executeTakeFirst();
  expect(row?.default_branch).toBe("main");

  const listed = (await api.ask("GET", `${path}/evaluations`)).message;
  expect(listed.map(({ branch }: { branch: string }) => branch)).toEqual(["release", "main", "main"]);
  expect((await api.ask("GET", `/evals/${listed[0].id}`)).message.branch).toBe("release");
  const wrong = await api.ask("POST", `${path}/evaluate`, api.writer, { branch: "-x", concurrency: "all" });
  expect([wrong.status, wrong.code]).toEqual([400, "validation"]);
});

test("times and branches that are looked at by name are of a branch, pull requests never go to hosts", async () => {
  const timed = await watched(TIME);
  await timed.repository.commit();
  await timed.lookAgain();
  expect(await branches(timed.id)).toEqual([["main", true]]);
  const named = await watched({ ...POLLING, branch: "release" });
  await named.repository.commit();
  await named.repository.commit("release");
  await named.lookAgain();
  expect(await branches(named.id)).toEqual([["release", true]]);

  await endEvaluationsOf(api.deps, named.id);
  const trigger = { project_id: named.id, type: 2, config: JSON.stringify({ branches: [], actions: [] }) };
  const pulls = { id: "01890000-0000-7000-8000-0000000000ff", ...trigger };
  await api.db
    .insertInto("project_trigger")
    .values({ ...pulls, due_at: null })
    .execute();
  expect((await api.ask("POST", `${named.path}/triggers/${pulls.id}/test`, api.writer)).message.outcome).toBe(
    "Created",
  );
  expect((await branches(named.id)).at(-1)).toEqual(["main", false]);
});

test("a repository that does not say what its HEAD is has no branch that hosts could follow", async () => {
  const { id, repository, lookAgain } = await watched(POLLING);
  await repository.commit();
  await git(repository.folder, "checkout", "--quiet", "--detach");
  await lookAgain();
  expect(await branches(id)).toEqual([[null, false]]);
});

test("a commit that comes to another branch is evaluated there, though it was on the first", async () => {
  const feature = await watched({ ...POLLING, branch: "feature" });
  await feature.repository.commit();
  await feature.repository.commit("feature");
  await feature.lookAgain();
  await endEvaluationsOf(api.deps, feature.id);
  await git(feature.repository.folder, "merge", "--quiet", "--ff-only", "feature");
  expect((await api.ask("POST", `${feature.path}/triggers`, api.admin, { config: POLLING })).status).toBe(200);
  const { message } = await api.ask("GET", `${feature.path}/triggers`);
  const ofMain = message.find(({ config }: { config: { branch: string | null } }) => config.branch === null).id;
  await makeDue(api.deps, ofMain);
  await look(api.deps, ofMain);
  expect(await branches(feature.id)).toEqual([
    ["feature", true],
    ["main", true],
  ]);
});

test("what is started again counts for hosts, unless there was something newer", async () => {
  const { id, path } = await watched(POLLING);
  const fleet = { id, path };
  const failed = { hosts: ["web"], buildStatus: BuildStatus.FailedPermanent, status: EvaluationStatus.Failed };
  const first = await buildHosts(api, fleet, { ...failed, outcome: BuildStatus.FailedPermanent });
  const again = await api.deps.control.restartFailed(first.evaluation, api.writer.id);
  expect(await branches(id)).toEqual([
    ["main", true],
    ["main", true],
  ]);
  await endEvaluationsOf(api.deps, id);
  await api.db.updateTable("build").set({ status: BuildStatus.FailedPermanent }).execute();
  await buildHosts(api, fleet, { hosts: ["web"] });
  const late = await api.deps.control.restartFailed(again, api.writer.id);
  const row = await api.db
    .selectFrom("evaluation")
    .select(["branch", "deploys"])
    .where("id", "=", late)
    .executeTakeFirst();
  expect(row).toEqual({ branch: "main", deploys: false });
});
