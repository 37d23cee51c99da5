import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { utf8 } from "#core/lib/bytes.ts";
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
  writeLogRows,
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

/** A build of the evaluation with an attempt that has written this; it ended long ago, unless it still runs. */
async function writes(evaluation: string, name: string, text: string, ended = true): Promise<string> {
  const build = await insertBuild(api.db, { organizationId, name, status: ended ? 3 : 2 });
  await linkBuild(api.db, evaluation, build);
  const attempt = await insertAttempt(api.db, { organizationId, buildId: build });
  if (text !== "") await writeLogRows(api.db, attempt, utf8(text));
  if (ended) await endLongAgo(attempt);
  return attempt;
}

async function endLongAgo(attempt: string): Promise<void> {
  await endAttempt(api.db, attempt);
  const finished_at = new Date(Date.now() - 60_000);
  await api.db.updateTable("attempt").set({ finished_at }).where("id", "=", attempt).execute();
}

class Followed {
  text = "";
  ended = false;
  readonly #abort = new AbortController();

  async start(evaluation: string): Promise<this> {
    const { signal } = this.#abort;
    const response = await api.fetch("POST", `/evals/${evaluation}/builds`, api.viewer, { signal });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toMatch(/x-ndjson/);
    expect(response.headers.get("content-security-policy")).toBe("sandbox");
    void this.#read(response);
    return this;
  }

  async until(done: () => boolean): Promise<void> {
    for (let waited = 0; !done(); waited += 20) {
      if (waited > 15_000) throw new Error(`it never came; so far: ${JSON.stringify(this.text)}`);
      await sleep(20);
    }
  }

  async #read(response: Response): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const bytes of response.body as ReadableStream<Uint8Array>) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.text += JSON.parse(line);
    }
    this.ended = true;
  }
}

test("logs of an ended evaluation come whole, build after build, each line with its build's name", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId, status: 5 });
  await writes(evaluation, "zlib", "configure\nmake\n");
  await writes(evaluation, "app", "a\n\nthe end");
  const never = await insertBuild(api.db, { organizationId, name: "never", status: 7 });
  await linkBuild(api.db, evaluation, never, { outcome: 7 });
  const followed = await new Followed().start(evaluation);
  await followed.until(() => followed.ended);
  expect(followed.text).toBe("zlib> configure\nzlib> make\napp> a\napp> \napp> the end\n");
});

test("logs of builds that run side by side come as they grow, in whole lines, until the evaluation ends", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  await writes(evaluation, "done", "old\n");
  const one = await writes(evaluation, "one", "1a\n1b", false);
  const two = await writes(evaluation, "two", "", false);
  const followed = await new Followed().start(evaluation);
  await followed.until(() => followed.text === "done> old\none> 1a\n");

  await writeLogRows(api.db, two, utf8("2a\n"));
  await followed.until(() => followed.text.endsWith("two> 2a\n"));
  await writeLogRows(api.db, one, utf8(" and more\n1c"));
  await followed.until(() => followed.text.endsWith("one> 1b and more\n"));
  // One that began meanwhile, and one that began and ended between two looks.
  await writes(evaluation, "late", "3a\n", false);
  await writes(evaluation, "quick", "4a\n");
  await followed.until(() => followed.text.includes("late> 3a\n") && followed.text.includes("quick> 4a\n"));

  await endAttempt(api.db, one);
  await api.db.updateTable("evaluation").set({ status: 5 }).where("id", "=", evaluation).execute();
  await writeLogRows(api.db, one, utf8(", the last\n"));
  await followed.until(() => followed.ended);
  expect(followed.text.split("\n").toSorted()).toEqual(
    [
      "",
      "done> old",
      "late> 3a",
      "one> 1a",
      "one> 1b and more",
      "one> 1c, the last",
      "quick> 4a",
      "two> 2a",
    ].toSorted(),
  );
});

test("only members follow; to others there is no such evaluation", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId, status: 5 });
  expect((await api.ask("POST", `/evals/${evaluation}/builds`, null)).status).toBe(401);
  const hidden = await api.ask("POST", `/evals/${evaluation}/builds`, api.stranger);
  const missing = await api.ask("POST", `/evals/${newId()}/builds`, api.stranger);
  expect([hidden.status, hidden.text]).toEqual([404, missing.text]);

  const open = await insertOrganization(api.db, { name: "open", public: true });
  const project = await insertProjectRow(api.db, { organizationId: open });
  const seen = await insertEvaluationRow(api.db, { organizationId: open, projectId: project, status: 5 });
  expect((await api.ask("GET", `/evals/${seen}/builds`, api.stranger)).status).toBe(200);
  expect((await api.ask("POST", `/evals/${seen}/builds`, api.stranger)).status).toBe(404);
});

test("who is no member any more hears nothing more", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const attempt = await writes(evaluation, "app", "begun\n", false);
  const followed = await new Followed().start(evaluation);
  await followed.until(() => followed.text === "app> begun\n");
  await api.db.deleteFrom("organization_member").where("user_id", "=", api.viewer.id).execute();
  await writeLogRows(api.db, attempt, utf8("secret\n"));
  await followed.until(() => followed.ended);
  expect(followed.text).toBe("app> begun\n");
});
