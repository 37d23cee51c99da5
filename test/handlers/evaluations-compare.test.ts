import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CompareView } from "#core/api/compare.ts";
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
async function stored(name: string, size: number, references: readonly string[] = []): Promise<string> {
  const hash = String(++paths).padStart(32, "0");
  const narHash = new TextEncoder().encode(hash);
  await sql`
    insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
    values (${narHash}, ${size}, ${narHash}, ${size}, 'zstd', ${hash})`.execute(api.db);
  await sql`
    insert into cache_path (cache_id, hash, store_path, nar_hash, "references")
    values (${cacheId}, ${hash}, ${`${hash}-${name}`}, ${narHash}, ${references}::text[])`.execute(api.db);
  return `${hash}-${name}`;
}

async function evaluation(status = 5): Promise<string> {
  return await insertEvaluationRow(api.db, { organizationId, projectId, status });
}

/** The same name makes the same build: an evaluation sees it with `outcome`. */
const builds = new Map<string, string>();
async function asked(
  evaluationId: string,
  attribute: string,
  name: string,
  { outcome = 3, output }: { outcome?: number; output?: string } = {},
): Promise<void> {
  const known = builds.get(name);
  const build = known ?? (await insertBuild(api.db, { organizationId, name, status: outcome }));
  builds.set(name, build);
  if (!known && output) {
    await sql`update build_output set store_path = ${output} where build_id = ${build}`.execute(api.db);
  }
  await linkBuild(api.db, evaluationId, build, { outcome });
  await insertEntryPoint(api.db, evaluationId, build, ["packages", attribute]);
}

async function broken(evaluationId: string, attribute: string): Promise<void> {
  const about = { level: 0, message: "broken", source: "evaluation", attribute: ["packages", attribute] };
  await api.db
    .insertInto("evaluation_message")
    .values({ id: newId(), evaluation_id: evaluationId, ...about })
    .execute();
}

async function compare(after: string, before: string): Promise<CompareView> {
  return (await api.ask("GET", `/evals/${after}/compare/${before}`, api.viewer)).message;
}

function attributesOf(list: CompareView["added"]): string[] {
  return list.items.map(({ attribute }) => attribute.slice("packages.".length));
}

test("two evaluations are compared by what became of each attribute", async () => {
  const before = await evaluation();
  const after = await evaluation(6);
  await asked(before, "same", "same-1.0");
  await asked(after, "same", "same-1.0");
  await asked(before, "upgraded", "tool-1.0");
  await asked(after, "upgraded", "tool-1.1");
  await asked(before, "breaks", "breaks-1.0");
  await asked(after, "breaks", "breaks-1.1", { outcome: 4 });
  await asked(before, "unevaluated", "unevaluated-1.0");
  await broken(after, "unevaluated");
  await asked(before, "mended", "mended-1.0", { outcome: 6 });
  await asked(after, "mended", "mended-1.1");
  await broken(before, "evaluates-again");
  await asked(after, "evaluates-again", "again-1.0");
  await asked(before, "stays-red", "red-1.0", { outcome: 4 });
  await asked(after, "stays-red", "red-1.0", { outcome: 4 });
  await asked(before, "gone", "gone-1.0");
  await asked(after, "new", "new-1.0");

  const view = await compare(after, before);
  const lists = [view.added, view.removed, view.newly_failing, view.fixed, view.still_failing, view.changed];
  expect(lists.map(attributesOf)).toEqual([
    ["new"],
    ["gone"],
    ["breaks", "unevaluated"],
    ["evaluates-again", "mended"],
    ["stays-red"],
    ["upgraded"],
  ]);
  expect(lists.map(({ total }) => total)).toEqual([1, 1, 2, 2, 1, 1]);
  expect([view.unchanged_total, view.inputs, view.truncated]).toEqual([1, null, false]);
  expect(view.changed.items[0]).toMatchObject({
    before: { status: "Completed", name: "tool", version: "1.0" },
    after: { status: "Completed", name: "tool", version: "1.1", build: expect.any(String) },
  });
  expect(view.newly_failing.items[1]?.after).toMatchObject({
    status: "EvaluationError",
    build: null,
    derivation: null,
  });

  const back = await compare(before, after);
  expect([attributesOf(back.added), attributesOf(back.fixed)]).toEqual([["gone"], ["breaks", "unevaluated"]]);
});

test("sizes of closures and versions of the packages in them are compared", async () => {
  const before = await evaluation();
  const after = await evaluation();
  const oldLibrary = await stored("openssl-3.0.1", 100);
  const newLibrary = await stored("openssl-3.0.2", 130);
  const dev = await stored("openssl-3.0.2-dev", 7);
  const shell = await stored("bash-5.2", 1_000);
  const oldSite = await stored("site-1", 1, [oldLibrary, shell]);
  const newSite = await stored("site-2", 2, [newLibrary, dev, shell]);
  await asked(before, "site", "site-1", { output: oldSite });
  await asked(after, "site", "site-2", { output: newSite });

  const view = await compare(after, before);
  expect([view.before.closure_size, view.after.closure_size]).toEqual([1_101, 1_139]);
  expect(view.changed.items[0]).toMatchObject({ before: { closure_size: 1_101 }, after: { closure_size: 1_139 } });
  expect(view.packages).toEqual({
    total: 2,
    items: [
      { name: "openssl", before: ["3.0.1"], after: ["3.0.2"] },
      { name: "site", before: ["1"], after: ["2"] },
    ],
  });
});

test("the revisions of inputs are compared where both evaluations know theirs", async () => {
  const before = await evaluation();
  const after = await evaluation();
  const lock = async (id: string, inputs: unknown) =>
    await api.db
      .updateTable("evaluation")
      .set({ locked_inputs: JSON.stringify(inputs) })
      .where("id", "=", id)
      .execute();
  const nixpkgs = { name: "nixpkgs", source: "github:NixOS/nixpkgs" };
  const utils = { name: "utils", source: "github:o/utils", revision: "same", last_modified: null };
  await lock(before, [{ ...nixpkgs, revision: "aaa", last_modified: 1_700_000_000 }, utils]);
  expect((await compare(after, before)).inputs).toBeNull();
  await lock(after, [{ ...nixpkgs, revision: "bbb", last_modified: 1_700_086_400 }, utils, { ...utils, name: "more" }]);
  expect((await compare(after, before)).inputs).toEqual([
    { name: "more", before: null, after: { source: "github:o/utils", revision: "same", last_modified: null } },
    {
      name: "nixpkgs",
      before: { source: "github:NixOS/nixpkgs", revision: "aaa", last_modified: "2023-11-14T22:13:20.000000" },
      after: { source: "github:NixOS/nixpkgs", revision: "bbb", last_modified: "2023-11-15T22:13:20.000000" },
    },
  ]);
});

test("an overridden input shows what it was instead, and no revision, which nobody knows", async () => {
  const before = await evaluation();
  const after = await evaluation();
  const locked = [
    { name: "nixpkgs", source: "github:NixOS/nixpkgs", revision: "aaa", last_modified: null },
    { name: "utils", source: "github:o/utils", revision: "bbb", last_modified: null },
  ];
  const overrides = [{ input: "nix*", url: "git+https://user:secret@example.com/nixpkgs.git" }];
  const update = api.db.updateTable("evaluation").set({ locked_inputs: JSON.stringify(locked) });
  await update.where("id", "in", [before, after]).execute();
  await api.db
    .updateTable("evaluation")
    .set({ input_overrides: JSON.stringify(overrides) })
    .where("id", "=", after)
    .execute();
  const { inputs } = await compare(after, before);
  expect(inputs).toMatchObject([{ name: "nixpkgs", before: { revision: "aaa" }, after: { revision: null } }]);
  expect(inputs?.[0]?.after?.source).toContain("example.com/nixpkgs.git");
  expect(JSON.stringify(inputs)).not.toContain("secret");
});

test("who may see only one of two evaluations learns nothing of the other, not even that it exists", async () => {
  const own = await evaluation();
  const foreignId = await insertOrganization(api.db, { name: "foreign" });
  const foreignProject = await insertProjectRow(api.db, { organizationId: foreignId });
  const foreign = await insertEvaluationRow(api.db, { organizationId: foreignId, projectId: foreignProject });
  const missing = await api.ask("GET", `/evals/${own}/compare/${newId()}`);
  expect(missing.status).toBe(404);
  for (const path of [`/evals/${own}/compare/${foreign}`, `/evals/${foreign}/compare/${own}`]) {
    expect((await api.ask("GET", path)).text, path).toBe(missing.text);
  }
  expect((await api.ask("GET", `/evals/${own}/compare/nonsense`)).code).toBe("validation");
});
