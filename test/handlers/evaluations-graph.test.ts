import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
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
let organizationId: string;
let projectId: string;
let cacheId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  organizationId = api.organizationId;
  projectId = await insertProjectRow(api.db, { organizationId });
  cacheId = await insertCacheOf(api.db, organizationId);
});
afterAll(() => api[Symbol.asyncDispose]());

let paths = 0;
/** A path in the organization's cache. */
async function stored(
  name: string,
  size: number,
  references: readonly string[] = [],
  cache = cacheId,
): Promise<string> {
  const hash = String(++paths).padStart(32, "0");
  const path = `${hash}-${name}`;
  const narHash = new TextEncoder().encode(hash);
  await sql`
    insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
    values (${narHash}, ${size}, ${narHash}, ${size}, 'zstd', ${path})`.execute(api.db);
  await sql`
    insert into cache_path (cache_id, hash, store_path, nar_hash, "references")
    values (${cache}, ${hash}, ${path}, ${narHash}, ${references}::text[])`.execute(api.db);
  return path;
}

interface Made {
  readonly build: string;
  readonly link: string;
  readonly hash: string;
}

async function built(
  evaluationId: string,
  name: string,
  { output, needs = [], status = 3 }: { output?: string; needs?: readonly Made[]; status?: number } = {},
): Promise<Made> {
  const build = await insertBuild(api.db, { organizationId, name, status, needs: needs.map((need) => need.build) });
  const hash = String(++paths).padStart(32, "0");
  await sql`update build set drv_path = ${`${hash}-${name}.drv`} where id = ${build}`.execute(api.db);
  if (output) await sql`update build_output set store_path = ${output} where build_id = ${build}`.execute(api.db);
  return { build, link: await linkBuild(api.db, evaluationId, build), hash };
}

async function evaluation(): Promise<string> {
  return await insertEvaluationRow(api.db, { organizationId, projectId });
}

test("what it takes to run a build has every path that its outputs refer to, the biggest first", async () => {
  const id = await evaluation();
  const libc = await stored("libc-2.40", 4_000);
  const shell = await stored("shell-5.2", 1_500, [libc]);
  const output = await stored("tool-1.0", 10, [shell, libc]);
  // A path refers to itself as well.
  await sql`update cache_path set "references" = "references" || store_path where store_path = ${output}`.execute(
    api.db,
  );
  const tool = await built(id, "tool-1.0", { output });
  const node = (path: string, nar_size: number) => ({ id: path.slice(0, 32), name: path.slice(33), path, nar_size });
  const closure = (await api.ask("GET", `/builds/${tool.link}/runtime-closure`, api.viewer)).message;
  const [l, s, t] = [libc, shell, output].map((path) => path.slice(0, 32));
  expect(closure).toEqual({
    roots: [t],
    total_size_bytes: 5_510,
    node_count: 3,
    edge_count: 3,
    truncated: false,
    nodes: [node(libc, 4_000), node(shell, 1_500), node(output, 10)],
    edges: [
      { source: s, target: l },
      { source: t, target: l },
      { source: t, target: s },
    ],
  });
  await insertEntryPoint(api.db, id, tool.build, ["tool"]);
  expect((await api.ask("GET", `/evals/${id}/runtime-closure`)).message).toEqual(closure);
});

test("what it takes to make a build has the derivations below it, with the sizes of their outputs", async () => {
  const id = await evaluation();
  const compiler = await built(id, "compiler-9", { output: await stored("compiler-9", 900) });
  const library = await built(id, "library-1", { output: await stored("library-1", 300), needs: [compiler] });
  const tool = await built(id, "tool-1", { needs: [library, compiler], status: 2 });
  await insertEntryPoint(api.db, id, tool.build, ["tool"]);
  const closure = (await api.ask("GET", `/evals/${id}/closure`, api.viewer)).message;
  expect(closure).toMatchObject({
    roots: [tool.hash],
    total_size_bytes: 1_200,
    node_count: 3,
    edge_count: 3,
    truncated: false,
    nodes: [
      { id: compiler.hash, name: "compiler-9", path: `${compiler.hash}-compiler-9.drv`, nar_size: 900 },
      { id: library.hash, name: "library-1", nar_size: 300 },
      { id: tool.hash, name: "tool-1", nar_size: 0 },
    ],
  });
  expect(closure.edges).toHaveLength(3);
  expect((await api.ask("GET", `/builds/${library.link}/closure`)).message).toMatchObject({
    node_count: 2,
    edges: [{ source: library.hash, target: compiler.hash }],
  });
});

test("a closure is made of what the organization may read, and of nothing in the caches of others", async () => {
  const id = await evaluation();
  const foreignId = await insertOrganization(api.db, { name: "foreign" });
  const foreignCache = await insertCacheOf(api.db, foreignId);
  const secret = await stored("secret", 7);
  const output = await stored("foreign-1.0", 50, [secret], foreignCache);
  const tool = await built(id, "foreign-1.0", { output });
  expect((await api.ask("GET", `/builds/${tool.link}/runtime-closure`)).message).toMatchObject({
    total_size_bytes: 0,
    node_count: 1,
    nodes: [{ path: output, nar_size: 0 }],
  });
});

test("no closure lists more than 1000 nodes, and its totals count all of them", async () => {
  const id = await evaluation();
  const references: string[] = [];
  for (let count = 0; count < 1_100; count++) references.push(await stored(`part-${count}`, 1 + count));
  const tool = await built(id, "big-1.0", { output: await stored("big-1.0", 1, references) });
  const closure = (await api.ask("GET", `/builds/${tool.link}/runtime-closure`)).message;
  expect([closure.nodes.length, closure.node_count, closure.edge_count, closure.truncated]).toEqual([
    1_000,
    1_101,
    1_100,
    true,
  ]);
  expect([closure.nodes[0].nar_size, closure.total_size_bytes]).toEqual([1_100, (1_100 * 1_101) / 2 + 1]);
});

test("the graph of a build holds the build and what it needs, nearest first, with the edges between them", async () => {
  const id = await evaluation();
  const base = await built(id, "base");
  const left = await built(id, "left", { needs: [base] });
  const right = await built(id, "right", { needs: [base], status: 4 });
  const top = await built(id, "top", { needs: [left, right], status: 6 });
  await built(id, "other", { needs: [top] });
  const { root, nodes, edges, truncated } = (await api.ask("GET", `/builds/${top.link}/graph`, api.viewer)).message;
  expect([root, truncated]).toEqual([top.link, false]);
  const names = nodes.map(({ name, status }: { name: string; status: string }) => [name, status]);
  expect(names[0]).toEqual(["top", "DependencyFailed"]);
  expect(names.slice(1, 3).sort()).toEqual([
    ["left", "Completed"],
    ["right", "FailedPermanent"],
  ]);
  expect(names[3]).toEqual(["base", "Completed"]);
  expect(nodes.at(-1)).toEqual({
    id: base.link,
    name: "base",
    path: `${base.hash}-base.drv`,
    status: "Completed",
    build_time_ms: null,
    created_at: expect.any(String),
    updated_at: expect.any(String),
  });
  const drawn = edges.map(({ source, target }: { source: string; target: string }) => `${source} ${target}`);
  expect(drawn.sort()).toEqual(
    [
      [top, left],
      [top, right],
      [left, base],
      [right, base],
    ]
      .map(([source, target]) => `${source?.link} ${target?.link}`)
      .sort(),
  );
});

test("a graph stops growing at 500 nodes and says so", async () => {
  const id = await evaluation();
  let below: Made | null = null;
  for (let count = 0; count < 501; count++) below = await built(id, `step-${count}`, { needs: below ? [below] : [] });
  const { nodes, edges, truncated } = (await api.ask("GET", `/builds/${below?.link}/graph`)).message;
  expect([nodes.length, edges.length, truncated, nodes[0].name, nodes[499].name]).toEqual([
    500,
    499,
    true,
    "step-500",
    "step-1",
  ]);
});

test("the flake's outputs are shown as a tree, with what did not evaluate", async () => {
  const id = await evaluation();
  const tool = await built(id, "tool");
  await insertEntryPoint(api.db, id, tool.build, ["packages", "x86_64-linux", "a.b"]);
  await api.db
    .insertInto("evaluation_message")
    .values({
      id: newId(),
      evaluation_id: id,
      level: 0,
      message: "broken",
      source: "evaluation",
      attribute: ["checks", "x"],
    })
    .execute();
  const attrset = (path: string, parent: string | null, name: string) => {
    return { path, parent, name, kind: "attrset", is_derivation: false, drv_path: null };
  };
  expect((await api.ask("GET", `/evals/${id}/flake-graph`, api.viewer)).message).toEqual([
    attrset("packages", null, "packages"),
    attrset("packages.x86_64-linux", "packages", "x86_64-linux"),
    {
      path: 'packages.x86_64-linux."a.b"',
      parent: "packages.x86_64-linux",
      name: "a.b",
      kind: "derivation",
      is_derivation: true,
      drv_path: `${tool.hash}-tool.drv`,
    },
    attrset("checks", null, "checks"),
    { path: "checks.x", parent: "checks", name: "x", kind: "error", is_derivation: false, drv_path: null },
  ]);
});

test("to whom a build or an evaluation is not theirs, its graphs and closures do not exist", async () => {
  const id = await evaluation();
  const { link } = await built(id, "tool");
  const pairs = [
    ...["graph", "closure", "runtime-closure"].map((what) => [`/builds/${link}/${what}`, `/builds/${newId()}/${what}`]),
    ...["flake-graph", "closure", "runtime-closure"].map((what) => [
      `/evals/${id}/${what}`,
      `/evals/${newId()}/${what}`,
    ]),
  ];
  for (const [hidden = "", missing = ""] of pairs) {
    const answers = [await api.ask("GET", hidden, api.stranger), await api.ask("GET", missing, api.stranger)];
    expect([answers[0]?.status, answers[0]?.text], hidden).toEqual([404, answers[1]?.text]);
    expect((await api.ask("GET", hidden, null)).status).toBe(404);
  }
});
