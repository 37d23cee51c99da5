import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  insertAttempt,
  insertBuild,
  insertCacheOf,
  insertEntryPoint,
  insertEvaluationRow,
  insertProjectRow,
  linkBuild,
  newId,
} from "../support/rows.ts";
import { storeTree } from "../support/stored-tree.ts";

let api: BuildsApi;
let cacheId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  cacheId = await insertCacheOf(api.db, api.organizationId);
});
afterAll(() => api[Symbol.asyncDispose]());

let made = 0;
const path = (name: string) => `${String(++made).padStart(32, "0")}-${name}`;

/** Bytes of the NAR of a path that refers to others. */
async function stored(base: string, references: readonly string[]): Promise<number> {
  await storeTree(api.db, api.deps.blobs, { cacheId, path: base, tree: { entries: { a: base, r: "report" } } });
  await api.db
    .updateTable("cache_path")
    .set({ references: [...references] })
    .where("store_path", "=", base)
    .execute();
  const nar = api.db.selectFrom("nar").innerJoin("cache_path", "cache_path.nar_hash", "nar.nar_hash");
  return (await nar.select("nar_size").where("store_path", "=", base).executeTakeFirstOrThrow()).nar_size;
}

async function made3(projectId: string) {
  const { organizationId } = api;
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId, status: 5 });
  const lib = { id: await insertBuild(api.db, { organizationId, name: "lib", status: 3 }), path: path("lib") };
  const tool = { id: await insertBuild(api.db, { organizationId, name: "tool", status: 3 }), path: path("tool") };
  const needs = [lib.id, tool.id];
  const site = {
    id: await insertBuild(api.db, { organizationId, name: "site", status: 3, needs }),
    path: path("site"),
  };
  const sizes = { lib: await stored(lib.path, [lib.path]), tool: await stored(tool.path, []), site: 0 };
  sizes.site = await stored(site.path, [lib.path, site.path]);
  for (const build of [lib, tool, site]) {
    await api.db.updateTable("build_output").set({ store_path: build.path }).where("build_id", "=", build.id).execute();
  }
  const attemptId = await insertAttempt(api.db, { organizationId, buildId: site.id, ranMs: 4_000 });
  await linkBuild(api.db, evaluation, lib.id);
  await linkBuild(api.db, evaluation, tool.id);
  const link = await linkBuild(api.db, evaluation, site.id, { outcome: 3, attemptId });
  await insertEntryPoint(api.db, evaluation, site.id, ["packages", "x86_64-linux", "site"]);
  return { evaluation, link, sizes, site };
}

async function freshProject(): Promise<{ id: string; name: string; path: string }> {
  const name = `p-${newId()}`;
  const id = await insertProjectRow(api.db, { organizationId: api.organizationId, name });
  return { id, name, path: `/projects/acme/${name}` };
}

test("metrics tell what completed evaluations took and how large they were, the oldest first", async () => {
  const project = await freshProject();
  const first = await made3(project.id);
  await api.db
    .updateTable("evaluation")
    .set({
      fetch_started_at: new Date("2026-01-01T00:00:00Z"),
      building_started_at: new Date("2026-01-01T00:00:07.500Z"),
    })
    .where("id", "=", first.evaluation)
    .execute();
  const second = await made3(project.id);
  await insertEvaluationRow(api.db, { organizationId: api.organizationId, projectId: project.id, status: 6 });

  const { message } = await api.ask("GET", `${project.path}/metrics`, api.viewer);
  const { lib, tool, site } = first.sizes;
  const measured = {
    created_at: expect.any(String),
    build_time_total_ms: 4_000,
    output_size_bytes: site,
    closure_size_bytes: lib + tool + site,
    runtime_closure_size_bytes: lib + site,
    dependencies_count: 2,
  };
  expect(message).toEqual({
    keep_evaluations: 5,
    points: [
      { ...measured, evaluation_id: first.evaluation, eval_time_ms: 7_500 },
      { ...measured, evaluation_id: second.evaluation, eval_time_ms: null },
    ],
  });
  const alias = await api.ask("GET", `/metrics${project.path}/evaluations`, api.viewer);
  expect(alias.message).toEqual(message);
});

test("metrics of an entry point tell what became of it, failed or not", async () => {
  const project = await freshProject();
  const first = await made3(project.id);
  const second = await made3(project.id);
  await api.db.updateTable("evaluation_build").set({ outcome: 4 }).where("id", "=", second.link).execute();
  const query = "?eval=packages.x86_64-linux.site";
  const { message } = await api.ask("GET", `${project.path}/entry-point-metrics${query}`, api.viewer);
  const { lib, tool, site } = first.sizes;
  expect(message).toMatchObject({
    eval: "packages.x86_64-linux.site",
    keep_evaluations: 5,
    points: [
      {
        evaluation_id: first.evaluation,
        build_id: first.link,
        build_status: "Completed",
        build_time_ms: 4_000,
        output_size_bytes: site,
        closure_size_bytes: lib + tool + site,
        runtime_closure_size_bytes: lib + site,
        dependencies_count: 2,
      },
      { evaluation_id: second.evaluation, build_id: second.link, build_status: "FailedPermanent" },
    ],
  });
  const alias = await api.ask("GET", `/metrics${project.path}/entry-point${query}`, api.viewer);
  expect(alias.message).toEqual(message);
  const unknown = await api.ask("GET", `${project.path}/entry-point-metrics?eval=nothing`);
  expect(unknown.message.points).toEqual([]);
  for (const wrong of ["", "?eval=%22"]) {
    const answer = await api.ask("GET", `${project.path}/entry-point-metrics${wrong}`);
    expect([answer.status, answer.code]).toEqual([400, "validation"]);
  }
});

test("at most as many points come as the project keeps, and what is stored nowhere has no size", async () => {
  const project = await freshProject();
  const { organizationId } = api;
  for (let i = 0; i < 7; i++) {
    const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId: project.id, status: 5 });
    const build = await insertBuild(api.db, { organizationId, name: "x", status: 3 });
    await linkBuild(api.db, evaluation, build);
    await insertEntryPoint(api.db, evaluation, build, ["x"]);
  }
  const { points } = (await api.ask("GET", `${project.path}/metrics`)).message;
  expect(points).toHaveLength(5);
  const nothing = { output_size_bytes: null, closure_size_bytes: null, runtime_closure_size_bytes: null };
  expect(points[0]).toMatchObject({ ...nothing, dependencies_count: 0, build_time_total_ms: 0 });
});

test("nobody else learns what a private project took", async () => {
  const { path } = await freshProject();
  for (const address of ["metrics", "entry-point-metrics?eval=x"]) {
    for (const user of [api.stranger, null]) {
      expect((await api.ask("GET", `${path}/${address}`, user)).status).toBe(404);
    }
  }
  expect((await api.ask("GET", `/metrics${path}/evaluations`, api.stranger)).status).toBe(404);
});

test("an entry point's file is that of its newest success, for who may see it", async () => {
  const project = await freshProject();
  const { link, site } = await made3(project.id);
  const product = { build_id: site.id, output: "out", type: "file", subtype: "html", size: 6 };
  await api.db
    .insertInto("build_product")
    .values({ ...product, ordinal: 0, name: "r", path: `${site.path}/r` })
    .execute();
  await insertEvaluationRow(api.db, { organizationId: api.organizationId, projectId: project.id, status: 6 });

  const address = `${project.path}/entry-point-downloads?eval=packages.x86_64-linux.site&filename=r`;
  const answer = await api.fetch("GET", address, api.viewer);
  expect([answer.status, await answer.text()]).toEqual([200, "report"]);
  expect(answer.headers.get("content-security-policy")).toBe("sandbox");
  const head = await api.fetch("HEAD", address, api.viewer);
  expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([200, "6", ""]);

  const token = (await api.ask("GET", `/builds/${link}/download-token`, api.viewer)).message;
  expect((await api.fetch("GET", `${address}&token=${token}`, null)).status).toBe(200);
  expect((await api.fetch("GET", `${address}&token=${api.viewer.token}`, null)).status).toBe(200);
  expect((await api.fetch("GET", `${address}&token=nonsense`, null)).status).toBe(401);
  // What may not be seen looks like what is not there.
  const hidden = [
    await api.ask("GET", address, null),
    await api.ask("GET", address, api.stranger),
    await api.ask("GET", address.replace("site&", "other&"), api.stranger),
    await api.ask("GET", address.replace(project.name, "nothing"), api.stranger),
  ];
  expect(hidden.map(({ status, message }) => [status, message])).toEqual(hidden.map(() => [404, "Build not found"]));
  expect((await api.ask("GET", address.replace("=r", "=q"), api.viewer)).status).toBe(404);
  expect((await api.ask("GET", `${project.path}/entry-point-downloads?eval=x`, api.viewer)).status).toBe(400);
});
