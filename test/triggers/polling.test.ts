import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TriggerConfig } from "#core/api/triggers.ts";
import { listDueTriggers } from "#core/db/triggers.ts";
import { type IpNetwork, parseIpNetwork } from "#core/domain/ip-address.ts";
import { lookAtTrigger, type TriggerDeps, TriggerLooks } from "#core/services/triggers-run.ts";
import { createGitRemote } from "#runtime/node/git-remote.ts";
import { type BuildsApi, withBuildsApi } from "#test/support/builds-api.ts";
import { type GitServer, withGitServer } from "#test/support/git.ts";
import { insertCacheOf, insertOrganization } from "#test/support/rows.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { dueTrigger, endEvaluationsOf, evaluationsOf, look, makeDue, makeRepository, triggerRow } from "./support.ts";

const POLLING: TriggerConfig = { type: "polling", interval_secs: 10, branch: null };

let api: BuildsApi;
let deps: TriggerDeps;
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
  deps = api.deps;
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
  await state[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
});

/** A project with a trigger that is due, and the repository that it looks at. */
async function polled(config: TriggerConfig = POLLING) {
  const name = `repository-${count++}`;
  const repository = await makeRepository(folder.path, name);
  const url = `${server.url}/${name}/.git`;
  const trigger = await dueTrigger(deps, { organizationId: api.organizationId, repository: url }, config);
  return { ...trigger, repository, path: `/projects/acme/${trigger.projectName}` };
}

async function lookAgain(id: string): Promise<void> {
  await makeDue(deps, id);
  expect(await look(deps, id)).toBe(true);
}

const hashes = async (projectId: string) => (await evaluationsOf(deps, projectId)).map((row) => row.commit_hash);

test("a new commit is evaluated once, and the evaluation names its trigger", async () => {
  const { id, projectId, repository, path } = await polled();
  const first = await repository.commit();
  await lookAgain(id);
  await lookAgain(id);
  expect(await hashes(projectId)).toEqual([first]);

  const [evaluation] = await evaluationsOf(deps, projectId);
  expect(evaluation).toMatchObject({ status: 0, trigger_id: id, started_by: null });
  const trigger = { id, type: "polling" };
  const listed = await api.ask("GET", `${path}/evaluations`);
  expect(listed.message).toMatchObject([{ commit: first, trigger, triggered_by: null }]);
  expect((await api.ask("GET", `/evals/${evaluation?.id}`)).message).toMatchObject({ trigger, triggered_by: null });

  const second = await repository.commit();
  await lookAgain(id);
  expect(await hashes(projectId)).toEqual([first, second]);
  expect((await evaluationsOf(deps, projectId)).map(({ status }) => status)).toEqual([7, 0]);
});

test("the next look comes after the interval and a little more, and the last ones are told", async () => {
  const { id, repository, path } = await polled();
  await repository.commit();
  await lookAgain(id);
  const row = await triggerRow(deps, id);
  const pause = (row.due_at?.getTime() ?? 0) - (row.last_checked_at?.getTime() ?? 0);
  expect(pause).toBeGreaterThanOrEqual(10_000);
  expect(pause).toBeLessThanOrEqual(11_001);
  expect(await look(deps, id)).toBe(false);
  const { message } = await api.ask("GET", `${path}/triggers/${id}`);
  expect(message).toMatchObject({ config: POLLING, active: true, last_error: null, integration: null });
  expect([message.last_fired_at, message.last_checked_at, message.next_check_at]).not.toContain(null);
  expect((await api.ask("GET", `${path}/details`)).message.last_check_at).not.toBeNull();
});

test("a commit that somebody has evaluated already is not evaluated again", async () => {
  const { id, projectId, repository, path } = await polled();
  const first = await repository.commit();
  expect((await api.ask("POST", `${path}/evaluate`)).status).toBe(200);
  await lookAgain(id);
  await endEvaluationsOf(deps, projectId);
  await lookAgain(id);
  expect(await hashes(projectId)).toEqual([first]);
});

test("a branch is looked at by its name, and a missing one is an error that is shown", async () => {
  const { id, projectId, repository, path } = await polled({ ...POLLING, branch: "release" });
  await repository.commit();
  await lookAgain(id);
  const { message } = await api.ask("GET", `${path}/triggers/${id}`);
  expect(message).toMatchObject({ last_error: expect.stringContaining("refs/heads/release"), last_fired_at: null });
  expect(await hashes(projectId)).toEqual([]);

  const released = await repository.commit("release");
  await lookAgain(id);
  expect(await hashes(projectId)).toEqual([released]);
  expect((await triggerRow(deps, id)).last_error).toBeNull();
});

test("a repository that does not answer is looked at less and less often", async () => {
  const { id } = await dueTrigger(
    deps,
    { organizationId: api.organizationId, repository: `${server.url}/nothing-here` },
    POLLING,
  );
  const pauses: number[] = [];
  for (let failure = 1; failure <= 9; failure++) {
    await lookAgain(id);
    const row = await triggerRow(deps, id);
    expect(row).toMatchObject({ failures: failure, last_error: expect.stringContaining("not found") });
    pauses.push(Math.floor(((row.due_at?.getTime() ?? 0) - (row.last_checked_at?.getTime() ?? 0)) / 1_000));
  }
  for (const [index, pause] of pauses.entries()) {
    const expected = Math.min(3_600, 30 * 2 ** index);
    expect(pause).toBeGreaterThanOrEqual(expected);
    expect(pause).toBeLessThanOrEqual(Math.ceil(expected * 1.1));
  }
});

test("a server that ends over a new commit leaves it to the next one, and it is evaluated once", async () => {
  const { id, projectId, repository } = await polled();
  const commit = await repository.commit();
  await makeDue(deps, id);
  const [due] = (await listDueTriggers(deps.db, { limit: 1_000, except: [] })).filter((row) => row.id === id);
  if (!due) throw new Error("the trigger is due");
  const ending = new AbortController();
  const git: TriggerDeps["git"] = {
    resolve: async () => {
      ending.abort();
      throw new Error("the server ends");
    },
  };
  await lookAtTrigger({ ...deps, git }, due, ending.signal);
  expect(await hashes(projectId)).toEqual([]);

  // The evaluation and what the trigger remembers are one: the second cannot be written, so neither is.
  await sql`create function refuse() returns trigger language plpgsql as 'begin raise exception ''no''; end'`.execute(
    api.db,
  );
  await sql`create trigger refuse before update on project_trigger for each row
    when (old.last_fired_at is distinct from new.last_fired_at) execute function refuse()`.execute(api.db);
  await look(deps, id);
  expect(await hashes(projectId)).toEqual([]);
  await sql`drop trigger refuse on project_trigger`.execute(api.db);

  await lookAgain(id);
  await lookAgain(id);
  expect(await hashes(projectId)).toEqual([commit]);
});

test("of two servers that look at the same moment one begins an evaluation", async () => {
  const projects = await Promise.all(Array.from({ length: 5 }, () => polled()));
  const commits = [];
  for (const { repository } of projects) commits.push(await repository.commit());
  for (const { id } of projects) await makeDue(deps, id);
  const signal = new AbortController().signal;
  const servers = [new TriggerLooks(deps, signal), new TriggerLooks(deps, signal)];
  await Promise.all(servers.map((looks) => looks.begin()));
  await Promise.all(servers.map((looks) => looks.allDone()));
  expect(await Promise.all(projects.map(({ projectId }) => hashes(projectId)))).toEqual(commits.map((hash) => [hash]));
});

test("what was found by old settings does not count when they were changed meanwhile", async () => {
  const { id, projectId, repository, path } = await polled();
  await repository.commit();
  const other = await repository.commit("other");
  await makeDue(deps, id);
  const slow: TriggerDeps = {
    ...deps,
    git: {
      resolve: async (...args) => {
        const found = await deps.git.resolve(...args);
        const config = { ...POLLING, branch: "other" };
        expect((await api.ask("PATCH", `${path}/triggers/${id}`, api.admin, { config })).status).toBe(200);
        return found;
      },
    },
  };
  await look(slow, id);
  expect(await hashes(projectId)).toEqual([]);
  await look(deps, id);
  expect(await hashes(projectId)).toEqual([other]);
});

test("a project that goes to another organization meanwhile is not evaluated for the one that it left", async () => {
  const { id, projectId, repository } = await polled();
  const commit = await repository.commit();
  const organizationId = await insertOrganization(api.db, { name: "other" });
  await makeDue(deps, id);
  const git: TriggerDeps["git"] = {
    resolve: async (...args) => {
      const change = api.db.updateTable("project").set({ organization_id: organizationId });
      await change.where("id", "=", projectId).execute();
      return await api.deps.git.resolve(...args);
    },
  };
  await look({ ...deps, git }, id);
  expect(await hashes(projectId)).toEqual([]);
  await look(deps, id);
  const [evaluation] = await evaluationsOf(deps, projectId);
  expect(evaluation).toMatchObject({ commit_hash: commit, organization_id: organizationId });
});

test("the concurrency policy decides what becomes of an evaluation that goes on", async () => {
  const cases = [
    ["hard_abort", [7, 0]],
    ["soft_abort", [7, 0]],
    ["all", [0, 0]],
    ["skip", [0]],
  ] as const;
  for (const [concurrency, statuses] of cases) {
    const { id, projectId, repository, path } = await polled();
    await api.ask("PATCH", path, api.admin, { concurrency });
    await repository.commit();
    await lookAgain(id);
    const second = await repository.commit();
    await lookAgain(id);
    expect((await evaluationsOf(deps, projectId)).map(({ status }) => status)).toEqual(statuses);
    if (concurrency !== "skip") continue;
    // It was not forgotten.
    await endEvaluationsOf(deps, projectId);
    await lookAgain(id);
    expect((await hashes(projectId)).at(-1)).toBe(second);
  }
});

test("a project that was changed is evaluated again at the next look, once nothing of it goes on", async () => {
  const { id, projectId, repository, path } = await polled();
  const commit = await repository.commit();
  await lookAgain(id);
  await api.ask("PATCH", path, api.admin, { wildcard: "checks.*.*" });
  await lookAgain(id);
  expect(await hashes(projectId)).toEqual([commit]);
  await endEvaluationsOf(deps, projectId);
  await lookAgain(id);
  await endEvaluationsOf(deps, projectId);
  await lookAgain(id);
  expect((await evaluationsOf(deps, projectId)).map((row) => [row.commit_hash, row.wildcard])).toEqual([
    [commit, "packages.*.*"],
    [commit, "checks.*.*"],
  ]);
});

test("two branches of one project do not begin each other's commits anew", async () => {
  const { id, projectId, repository, path } = await polled();
  const main = await repository.commit();
  const release = await repository.commit("release");
  const config = { ...POLLING, branch: "release" };
  const other = (await api.ask("POST", `${path}/triggers`, api.admin, { config })).message.id;
  for (const trigger of [id, other, id, other]) {
    await endEvaluationsOf(deps, projectId);
    await lookAgain(trigger);
  }
  expect(await hashes(projectId)).toEqual([main, release]);
});

test("neither a trigger that is off nor one of a project that is off is looked at", async () => {
  const { id, path, repository } = await polled();
  await repository.commit();
  await api.ask("DELETE", `${path}/active`);
  await makeDue(deps, id);
  expect(await look(deps, id)).toBe(false);
  expect((await api.ask("GET", `${path}/triggers/${id}`)).message.next_check_at).toBeNull();
  await api.ask("POST", `${path}/active`);
  await api.ask("PATCH", `${path}/triggers/${id}`, api.admin, { active: false });
  await makeDue(deps, id);
  expect(await look(deps, id)).toBe(false);
  await api.ask("PATCH", `${path}/triggers/${id}`, api.admin, { active: true });
  expect(await look(deps, id)).toBe(true);
});
