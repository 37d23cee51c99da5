import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { listOldEvaluations } from "#core/db/retention-evaluations.ts";
import { openVerdicts } from "#core/db/verdicts.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { settleVerdicts } from "#core/services/verdict.ts";
import { keepSettlingVerdicts } from "#runtime/node/verdict-loop.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  insertAttempt,
  insertBuild,
  insertEntryPoint,
  insertEvaluationRow,
  insertProjectRow,
  linkBuild,
  newId,
  writeLogRows,
} from "../support/rows.ts";

let api: BuildsApi;
let organizationId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  organizationId = api.organizationId;
});
afterAll(() => api[Symbol.asyncDispose]());

let projects = 0;
async function project(): Promise<string> {
  return await insertProjectRow(api.db, { organizationId, name: `verdict-${projects++}` });
}

async function evaluation(projectId: string, commit: string, status = 3): Promise<string> {
  const id = await insertEvaluationRow(api.db, { organizationId, projectId, status });
  await api.db
    .updateTable("evaluation")
    .set({ commit_hash: commit.repeat(40) })
    .where("id", "=", id)
    .execute();
  return id;
}

interface Made {
  readonly build: string;
  readonly link: string;
}

/** A build of an evaluation as that saw it end, asked for by these attributes. */
async function built(
  evaluationId: string,
  name: string,
  outcome: number,
  { needs = [], attributes = [], log }: { needs?: Made[]; attributes?: string[]; log?: string } = {},
): Promise<Made> {
  const build = await insertBuild(api.db, { organizationId, name, status: outcome, needs: needs.map((n) => n.build) });
  let attemptId: string | undefined;
  if (log !== undefined) {
    attemptId = await insertAttempt(api.db, { organizationId, buildId: build, ranMs: 1_000 });
    await api.db
      .updateTable("attempt")
      .set({ outcome: 3, message: "builder failed with exit code 1" })
      .where("id", "=", attemptId)
      .execute();
    await writeLogRows(api.db, attemptId, utf8(log));
  }
  const link = await linkBuild(api.db, evaluationId, build, { outcome, ...(attemptId && { attemptId }) });
  for (const attribute of attributes) await insertEntryPoint(api.db, evaluationId, build, ["packages", attribute]);
  return { build, link };
}

/** Ends an evaluation and writes down its verdict, unless that is to stay open. */
async function end(evaluationId: string, status: number, { open = false }: { open?: boolean } = {}): Promise<void> {
  await sql`
    update evaluation set status = ${status}, finished_at = gradient_now() where id = ${evaluationId}`.execute(api.db);
  await api.db.transaction().execute((trx) => openVerdicts(trx, [evaluationId]));
  await sql`
    update evaluation_verdict set ended_at = gradient_now() - interval '1 minute'
    where evaluation_id = ${evaluationId}`.execute(api.db);
  if (!open) await settleVerdicts({ ...api.deps }, new AbortController().signal);
}

const LOG = `@nix {"action":"setPhase","phase":"buildPhase"}
compiling
lib.c:1: error: expected ';'
make: *** [lib.o] Error 1
`;

test("a verdict names the builds that failed themselves, what each takes down, and lines that tell why", async () => {
  const projectId = await project();
  const before = await evaluation(projectId, "a");
  await built(before, "app-1.0", 3, { attributes: ["app", "site"] });
  await built(before, "old-tool-1.0", 4, { attributes: ["tool"], log: LOG });
  await end(before, 6);

  const now = await evaluation(projectId, "b");
  const library = await built(now, "library-2.0", 4, { log: LOG });
  const middle = await built(now, "middle-1.0", 6, { needs: [library] });
  await built(now, "app-1.1", 6, { needs: [middle], attributes: ["app"] });
  await built(now, "site-1.1", 6, { needs: [middle, library], attributes: ["site"] });
  const tool = await built(now, "old-tool-1.1", 4, { attributes: ["tool"], log: LOG });
  await built(now, "fine-1.0", 3, { attributes: ["fine"] });
  await api.db
    .insertInto("evaluation_message")
    .values({
      id: newId(),
      evaluation_id: now,
      level: 0,
      message: "no such attribute",
      source: "evaluation",
      attribute: ["packages", "gone"],
    })
    .execute();
  await end(now, 6);

  const verdict = (await api.ask("GET", `/evals/${now}/verdict`, api.viewer)).message;
  expect(verdict).toMatchObject({
    evaluation: now,
    result: "red",
    final: true,
    summary:
      "4 attributes of 5 are red, 3 of them new here: library-2.0 and 1 other build failed by themselves, " +
      "and 1 error of the evaluation.",
    compared_with: { evaluation: before, commit: "b".replace("b", "a").repeat(40) },
    attributes: { total: 5, green: 1, red: 4, other: 0, new_here: 3, red_before: 1 },
    builds: { completed: 1, substituted: 0, failed: 2, dependency_failed: 3, aborted: 0, open: 0 },
    failures_total: 2,
    errors: [{ attribute: "packages.gone", message: "no such attribute", standing: "new" }],
    truncated: false,
  });
  expect(verdict.failures).toMatchObject([
    {
      build: library.link,
      name: "library-2.0",
      status: "FailedPermanent",
      standing: "new",
      message: "builder failed with exit code 1",
      phase: "buildPhase",
      lines: [
        { number: 2, text: "compiling" },
        { number: 3, text: "lib.c:1: error: expected ';'" },
        { number: 4, text: "make: *** [lib.o] Error 1" },
      ],
      attributes: [
        { attribute: "packages.app", standing: "new" },
        { attribute: "packages.site", standing: "new" },
      ],
    },
    // Another version of what failed before is red before, too.
    { build: tool.link, standing: "red_before", attributes: [{ attribute: "packages.tool", standing: "red_before" }] },
  ]);
});

test("a verdict stays as it was, whatever becomes of its builds, their logs and what it compares with", async () => {
  const projectId = await project();
  const before = await evaluation(projectId, "a");
  await built(before, "tool-1.0", 4, { attributes: ["tool"] });
  await end(before, 6);
  const now = await evaluation(projectId, "b");
  const tool = await built(now, "tool-1.1", 4, { attributes: ["tool"], log: LOG });
  await end(now, 6);
  const first = await api.ask("GET", `/evals/${now}/verdict`);
  expect(first.message).toMatchObject({ final: true, attributes: { red_before: 1 } });

  await api.db.updateTable("build").set({ status: 3 }).where("id", "=", tool.build).execute();
  await api.db.deleteFrom("attempt").where("build_id", "=", tool.build).execute();
  await api.db.deleteFrom("evaluation").where("id", "=", before).execute();
  expect((await api.ask("GET", `/evals/${now}/verdict`)).text).toBe(first.text);
});

test("what a verdict is about to compare with is kept until it is written down", async () => {
  const projectId = await project();
  await api.db.updateTable("project").set({ keep_evaluations: 1 }).where("id", "=", projectId).execute();
  const before = await evaluation(projectId, "a");
  await end(before, 6);
  const now = await evaluation(projectId, "b");
  await end(now, 6, { open: true });
  const old = async () =>
    (await listOldEvaluations(api.db, 0, { after: null, limit: 100 })).filter((row) => row.project_id === projectId);
  expect(await old()).toEqual([]);
  await settleVerdicts({ ...api.deps }, new AbortController().signal);
  expect(await old()).toMatchObject([{ id: before }]);
});

test("the loop writes down the verdict of every evaluation that ended, also from before there were any", async () => {
  const projectId = await project();
  const [old, fresh] = [await evaluation(projectId, "a"), await evaluation(projectId, "b")];
  await sql`update evaluation set status = 5, finished_at = gradient_now() where id = ${old}`.execute(api.db);
  await end(fresh, 6, { open: true });
  const recordOf = async (id: string) => (await api.ask("GET", `/evals/${id}/verdict`)).message;
  const before = await recordOf(fresh);
  expect(before).toMatchObject({ final: false, compared_with: { evaluation: old } });

  const stopping = new AbortController();
  const loop = keepSettlingVerdicts({ ...api.deps, clock: systemClock }, stopping.signal);
  await expect.poll(async () => (await recordOf(fresh)).final, { timeout: 30_000 }).toBe(true);
  stopping.abort();
  await loop;
  expect(await recordOf(fresh)).toEqual({ ...before, final: true });
  const { rows } = await sql`select base_id from evaluation_verdict where evaluation_id = ${old}`.execute(api.db);
  expect(rows).toEqual([{ base_id: null }]);
});

test("a log that cannot be read leaves the verdict open, and after an hour it is written down without", async () => {
  const projectId = await project();
  const id = await evaluation(projectId, "a");
  const { build } = await built(id, "broken-1.0", 4, { attributes: ["broken"], log: LOG });
  await sql`
    insert into sealed_log (attempt_id, object_key, bytes, lines, file_bytes, frame_bytes, frames, chunks)
    select id, 'lost', 10, 1, 10, 10, '[[0,0]]', '[[0,0]]' from attempt where build_id = ${build}`.execute(api.db);
  const ofBuild = sql`select id from attempt where build_id = ${build}`;
  await sql`delete from attempt_log_chunk where attempt_id in (${ofBuild})`.execute(api.db);
  await end(id, 6);
  const verdictOf = async () => (await api.ask("GET", `/evals/${id}/verdict`)).message;
  expect(await verdictOf()).toMatchObject({ final: false, failures: [{ name: "broken-1.0", lines: [] }] });

  await end(id, 6, { open: true });
  await sql`update evaluation set finished_at = finished_at - interval '2 hours' where id = ${id}`.execute(api.db);
  await settleVerdicts({ ...api.deps }, new AbortController().signal);
  expect(await verdictOf()).toMatchObject({ final: true, failures: [{ name: "broken-1.0", lines: [] }] });
});

test("a green evaluation says what it fixed, and one without an earlier one compares with none", async () => {
  const projectId = await project();
  const before = await evaluation(projectId, "a");
  await built(before, "tool-1.0", 4, { attributes: ["tool"] });
  await end(before, 6);
  const now = await evaluation(projectId, "b");
  await built(now, "tool-1.1", 3, { attributes: ["tool"] });
  await built(now, "other-1.1", 7, { attributes: ["other"] });
  await end(now, 5);
  expect((await api.ask("GET", `/evals/${now}/verdict`)).message).toMatchObject({
    result: "green",
    summary: "All 2 attributes are built; 1 of them was red before.",
    fixed: ["packages.tool"],
    fixed_total: 1,
    failures: [],
  });
  expect((await api.ask("GET", `/evals/${before}/verdict`)).message).toMatchObject({
    compared_with: null,
    attributes: { red: 1, new_here: null, red_before: null },
    failures: [{ standing: null }],
  });
});

test("what was only given up with an aborted evaluation is no reason, and what failed before that is", async () => {
  const projectId = await project();
  const id = await evaluation(projectId, "a");
  const broken = await built(id, "broken-1.0", 9, { attributes: ["broken"], log: "" });
  await built(id, "given-up-1.0", 5, { attributes: ["given-up"] });
  await built(id, "above-1.0", 6, { needs: [broken], attributes: ["above"] });
  await end(id, 7);
  const verdict = (await api.ask("GET", `/evals/${id}/verdict`)).message;
  expect(verdict).toMatchObject({
    result: "aborted",
    summary: "It was aborted; before that broken-1.0 failed by itself.",
    attributes: { red: 2, other: 1 },
    failures_total: 1,
  });
  expect(verdict.failures[0].attributes.map((entry: { attribute: string }) => entry.attribute)).toEqual([
    "packages.above",
    "packages.broken",
  ]);
});

test("while an evaluation goes on its verdict tells what failed so far, and is not final", async () => {
  const projectId = await project();
  const id = await evaluation(projectId, "a");
  await built(id, "broken-1.0", 4, { attributes: ["broken"] });
  const open = await insertBuild(api.db, { organizationId, name: "open-1.0", status: 2 });
  await linkBuild(api.db, id, open);
  expect((await api.ask("GET", `/evals/${id}/verdict`)).message).toMatchObject({
    result: "running",
    final: false,
    summary: "It goes on; so far broken-1.0 failed by itself.",
    builds: { open: 1, failed: 1 },
  });
});

test("a failure below the evaluation's own builds is named, although an earlier evaluation met it", async () => {
  const projectId = await project();
  const id = await evaluation(projectId, "a");
  const deep = await insertBuild(api.db, { organizationId, name: "deep-1.0", status: 4 });
  await built(id, "top-1.0", 6, { needs: [{ build: deep, link: "" }], attributes: ["top"] });
  await end(id, 6);
  expect((await api.ask("GET", `/evals/${id}/verdict`)).message.failures).toMatchObject([
    { build: null, name: "deep-1.0", attributes: [{ attribute: "packages.top" }] },
  ]);
});

test("ending and aborting an evaluation leave what its verdict compares with, in the same transaction", async () => {
  const projectId = await project();
  const before = await evaluation(projectId, "a");
  await end(before, 5);
  const now = await evaluation(projectId, "b", 0);
  expect((await api.ask("POST", `/evals/${now}`, api.writer, { method: "abort" })).status).toBe(200);
  const { rows } = await sql`select base_id from evaluation_verdict where evaluation_id = ${now}`.execute(api.db);
  expect(rows).toEqual([{ base_id: before }]);
});

test("to whom it is not theirs a verdict looks like one that does not exist", async () => {
  const id = await evaluation(await project(), "a");
  const hidden = await api.ask("GET", `/evals/${id}/verdict`, api.stranger);
  const missing = await api.ask("GET", `/evals/${newId()}/verdict`, api.stranger);
  expect([hidden.status, hidden.text]).toEqual([404, missing.text]);
});
