import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  insertBuild,
  insertEntryPoint,
  insertEvaluationRow,
  insertOrganization,
  insertProjectRow,
  linkBuild,
  newId,
} from "../support/rows.ts";

let api: BuildsApi;
let publicId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  publicId = await insertOrganization(api.db, { name: "open", public: true });
});
afterAll(() => api[Symbol.asyncDispose]());

async function freshProject(organizationId = api.organizationId): Promise<{ id: string; path: string }> {
  const name = `p-${newId()}`;
  const id = await insertProjectRow(api.db, { organizationId, name });
  return { id, path: `/projects/${organizationId === publicId ? "open" : "acme"}/${name}/badge` };
}

async function evaluated(projectId: string, status: number, builds: Readonly<Record<string, number>> = {}) {
  const { organizationId } = api;
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId, status });
  for (const [name, buildStatus] of Object.entries(builds)) {
    const build = await insertBuild(api.db, { organizationId, name, status: buildStatus });
    await linkBuild(api.db, evaluation, build);
    await insertEntryPoint(api.db, evaluation, build, ["packages", "x86_64-linux", name]);
  }
  return evaluation;
}

async function words(address: string): Promise<string | undefined> {
  const answer = await api.fetch("GET", address);
  expect(answer.status).toBe(200);
  return /<title>([^<]*)<\/title>/.exec(await answer.text())?.[1];
}

test("a badge says how the last evaluation stands, whatever it is", async () => {
  const { id, path } = await freshProject();
  expect(await words(path)).toBe("gradient: unknown");
  const cases: [number, Record<string, number>, string][] = [
    [0, {}, "queued"],
    [8, {}, "fetching"],
    [1, {}, "evaluating"],
    [2, {}, "evaluating"],
    [3, { a: 2 }, "building"],
    [4, {}, "waiting"],
    [5, { a: 3, b: 7 }, "passing"],
    [6, { a: 3, b: 4 }, "partial"],
    [6, { a: 4, b: 6 }, "failing"],
    [6, {}, "failing"],
    [7, { a: 5 }, "aborted"],
  ];
  for (const [status, builds, state] of cases) {
    await evaluated(id, status, builds);
    expect(await words(path)).toBe(`gradient: ${state}`);
  }
});

test("neither a pull request nor what brings back lost outputs is the project's own state", async () => {
  const { id, path } = await freshProject();
  await evaluated(id, 5, { a: 3 });
  const strange = [{ trigger_type: 2 }, { kind: 2 }, { trusted: false }];
  for (const change of strange) {
    const other = await evaluated(id, 6, { a: 4 });
    await api.db.updateTable("evaluation").set(change).where("id", "=", other).execute();
  }
  expect(await words(path)).toBe("gradient: passing");
});

test("a badge of an entry point says how its build stands", async () => {
  const { id, path } = await freshProject();
  const builds = { good: 3, known: 7, bad: 4, slow: 9, below: 6, now: 2, next: 1, again: 8, gone: 5 };
  await evaluated(id, 6, builds);
  const states = [];
  for (const name of [...Object.keys(builds), "other"]) {
    states.push((await words(`${path}?eval=packages.x86_64-linux.${name}&label=x`))?.slice(3));
  }
  const expected = ["passing", "passing", "failing", "failing", "failing", "building", "queued", "queued", "aborted"];
  expect(states).toEqual([...expected, "unknown"]);
});

test("label and style are the page's, and what they may not be is refused", async () => {
  const { path } = await freshProject();
  expect(await words(`${path}?label=${encodeURIComponent("<b>&Co")}`)).toBe("&lt;b&gt;&amp;Co: unknown");
  const square = await (await api.fetch("GET", `${path}?style=flat-square`)).text();
  expect(square).toContain('rx="0"');
  for (const query of ["style=round", `label=${"x".repeat(101)}`, "eval=%22", "label=%00"]) {
    const answer = await api.ask("GET", `${path}?${query}`);
    expect([query, answer.status, answer.code]).toEqual([query, 400, "validation"]);
  }
});

test("everybody sees the badge of a public project, and clients ask anew each time for little", async () => {
  const { path } = await freshProject(publicId);
  const answer = await api.fetch("GET", path, null);
  expect(Object.fromEntries(answer.headers)).toMatchObject({
    "content-type": "image/svg+xml; charset=utf-8",
    "cache-control": "no-cache, max-age=0",
    pragma: "no-cache",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "x-content-type-options": "nosniff",
  });
  const etag = answer.headers.get("etag") ?? "";
  const head = await api.fetch("HEAD", path, null);
  expect([head.status, head.headers.get("etag"), await head.text()]).toEqual([200, etag, ""]);
  const again = await api.fetch("GET", path, null, { headers: { "if-none-match": etag } });
  expect([again.status, await again.text()]).toEqual([304, ""]);
  const other = await api.fetch("GET", `${path}?label=other`, null, { headers: { "if-none-match": etag } });
  expect(other.status).toBe(200);
});

test("a private project's badge is for its members, by a token in the address as well, and is not kept", async () => {
  const { path } = await freshProject();
  expect((await api.fetch("GET", path, null)).status).toBe(404);
  expect((await api.fetch("GET", path, api.stranger)).status).toBe(404);
  expect((await api.fetch("GET", `${path}?token=${api.stranger.token}`, null)).status).toBe(404);
  expect((await api.fetch("GET", `${path}?token=nonsense`, null)).status).toBe(401);
  const answer = await api.fetch("GET", `${path}?token=${api.viewer.token}`, null);
  expect([answer.status, answer.headers.get("cache-control")]).toEqual([200, "no-store"]);
});
