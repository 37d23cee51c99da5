import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  endAttempt,
  insertAttempt,
  insertBuild,
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

test("to whom it is not theirs a build looks exactly like one that does not exist", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const link = await linkBuild(api.db, evaluation, await insertBuild(api.db, { organizationId, name: "tool" }));
  const paths = ["", "/dependencies", "/log", "/log/chunks", "/log/chunk/0", "/log/lines?start=1", "/log/search?q=x"];
  for (const path of paths) {
    for (const user of [api.stranger, null]) {
      const hidden = await api.ask("GET", `/builds/${link}${path}`, user);
      const missing = await api.ask("GET", `/builds/${newId()}${path}`, user);
      expect([hidden.status, hidden.text], path).toEqual([404, missing.text]);
      expect(hidden.message).toBe("Build not found");
    }
  }
  const tail = await api.ask("POST", `/builds/${link}/log`, api.stranger);
  expect([tail.status, tail.text]).toEqual([404, (await api.ask("POST", `/builds/${newId()}/log`, api.stranger)).text]);
  expect((await api.ask("GET", `/builds/${link}`, api.viewer)).status).toBe(200);
  expect((await api.ask("GET", "/builds/7")).code).toBe("validation");
});

test("a public organization's builds and logs are read by everyone; following a log needs an account", async () => {
  const open = await insertOrganization(api.db, { name: "open", public: true });
  const project = await insertProjectRow(api.db, { organizationId: open });
  const evaluation = await insertEvaluationRow(api.db, { organizationId: open, projectId: project });
  const build = await insertBuild(api.db, { organizationId: open, name: "tool", status: 3 });
  const link = await linkBuild(api.db, evaluation, build);
  expect((await api.ask("GET", `/builds/${link}`, null)).status).toBe(200);
  expect((await api.ask("GET", `/builds/${link}/log`, null)).message).toBe("");
  expect((await api.ask("POST", `/builds/${link}/log`, null)).status).toBe(401);
});

test("a build shows what its evaluation saw, and the worker and outputs without the store's folder", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 0 });
  const link = await linkBuild(api.db, evaluation, build);
  expect((await api.ask("GET", `/builds/${link}`)).message).toEqual({
    id: link,
    evaluation,
    status: "Queued",
    derivation_path: `tool-${build}.drv`,
    architecture: "x86_64-linux",
    worker: null,
    output: { out: `tool-${build}` },
    job: null,
    error: null,
    metrics: null,
    priority: 0,
    waiting_reason: { kind: "dependencies", count: 0 },
    eta: null,
    created_at: expect.any(String),
    updated_at: expect.any(String),
  });

  const first = await insertAttempt(api.db, { organizationId, buildId: build });
  await endAttempt(api.db, first);
  const second = await insertAttempt(api.db, { organizationId, buildId: build });
  const workerOf = async (id: string) =>
    (await api.db.selectFrom("attempt").select("worker_id").where("id", "=", id).executeTakeFirstOrThrow()).worker_id;
  expect((await api.ask("GET", `/builds/${link}`)).message.worker).toBe(await workerOf(second));
  await api.db.updateTable("organization").set({ public: true }).where("id", "=", organizationId).execute();
  expect((await api.ask("GET", `/builds/${link}`, null)).message).toMatchObject({ id: link, worker: null });
  await api.db.updateTable("organization").set({ public: false }).where("id", "=", organizationId).execute();

  // The evaluation ended with the first attempt; the second belongs to another one.
  await api.db.updateTable("evaluation_build").set({ outcome: 4, attempt_id: first }).where("id", "=", link).execute();
  expect((await api.ask("GET", `/builds/${link}`)).message).toMatchObject({
    worker: await workerOf(first),
    status: "FailedPermanent",
  });
});

test("a failed build says why: its attempt's words, or which of its inputs failed", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const broken = await insertBuild(api.db, { organizationId, name: "broken", status: 4 });
  const between = await insertBuild(api.db, { organizationId, name: "between", status: 6, needs: [broken] });
  const fine = await insertBuild(api.db, { organizationId, name: "fine", status: 3 });
  const top = await insertBuild(api.db, { organizationId, name: "top", status: 6, needs: [between, broken, fine] });
  const attempt = await insertAttempt(api.db, { organizationId, buildId: broken, ranMs: 1 });
  const message = "builder failed with exit code 3";
  await api.db.updateTable("attempt").set({ message, outcome: 3 }).where("id", "=", attempt).execute();
  const links = new Map<string, string>();
  for (const build of [broken, between, fine, top]) links.set(build, await linkBuild(api.db, evaluation, build));
  const errorOf = async (build: string) => (await api.ask("GET", `/builds/${links.get(build)}`)).message.error;
  expect(await errorOf(broken)).toBe(message);
  expect(await errorOf(between)).toBe("it needs broken, which failed");
  expect(await errorOf(top)).toBe("it needs broken, between, which failed");
  expect(await errorOf(fine)).toBe(null);
});

test("dependencies are those of the same evaluation, by name", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const other = await insertEvaluationRow(api.db, { organizationId, projectId });
  const zlib = await insertBuild(api.db, { organizationId, name: "zlib", status: 3 });
  const libc = await insertBuild(api.db, { organizationId, name: "libc", status: 2 });
  const tool = await insertBuild(api.db, { organizationId, name: "tool", needs: [zlib, libc] });
  const root = await linkBuild(api.db, evaluation, tool);
  const links = [await linkBuild(api.db, evaluation, libc), await linkBuild(api.db, evaluation, zlib)];
  await linkBuild(api.db, other, libc);

  const { message } = await api.ask("GET", `/builds/${root}/dependencies`);
  expect(message.map(({ id }: { id: string }) => id)).toEqual(links);
  expect(message[0]).toMatchObject({ name: "libc", status: "Building", path: `libc-${libc}.drv` });
});
