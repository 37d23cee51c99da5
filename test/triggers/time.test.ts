import { afterAll, beforeAll, expect, test } from "vitest";
import type { TriggerConfig } from "#core/api/triggers.ts";
import { listDueTriggers } from "#core/db/triggers.ts";
import { DomainError } from "#core/errors.ts";
import { lookAtTrigger, type TriggerDeps } from "#core/services/triggers-run.ts";
import { type BuildsApi, withBuildsApi } from "#test/support/builds-api.ts";
import { COMMIT, insertCacheOf } from "#test/support/rows.ts";
import { dueTrigger, endEvaluationsOf, evaluationsOf, look, triggerRow } from "./support.ts";

const HOURLY: TriggerConfig = { type: "time", cron: "0 0 * * * *" };
const REPOSITORY = "https://example.com/site.git";

let api: BuildsApi;
let deps: TriggerDeps;
beforeAll(async () => {
  api = await withBuildsApi();
  deps = api.deps;
  await insertCacheOf(api.db, api.organizationId);
});
afterAll(() => api[Symbol.asyncDispose]());

const due = () => dueTrigger(deps, { organizationId: api.organizationId, repository: REPOSITORY }, HOURLY);

async function dueSince(id: string, hours: number): Promise<void> {
  const due_at = new Date(Date.now() - hours * 3_600_000);
  await api.db.updateTable("project_trigger").set({ due_at }).where("id", "=", id).execute();
}

test("a time begins an evaluation of a commit that is known, too", async () => {
  const { id, projectId } = await due();
  await look(deps, id);
  await endEvaluationsOf(deps, projectId);
  await dueSince(id, 1);
  await look(deps, id);
  const rows = await evaluationsOf(deps, projectId);
  expect(rows.map((row) => [row.commit_hash, row.trigger_id])).toEqual([
    [COMMIT, id],
    [COMMIT, id],
  ]);
});

test("of two servers that look at the same time one begins an evaluation", async () => {
  const { id, projectId } = await due();
  const rows = await listDueTriggers(deps.db, { limit: 1_000, except: [] });
  const [trigger] = rows.filter((row) => row.id === id);
  if (!trigger) throw new Error("the trigger is due");
  const { signal } = new AbortController();
  await Promise.all([lookAtTrigger(deps, trigger, signal), lookAtTrigger(deps, trigger, signal)]);
  expect(await evaluationsOf(deps, projectId)).toHaveLength(1);
});

test("times that passed while nobody looked are caught up once", async () => {
  const { id, projectId } = await due();
  await dueSince(id, 50);
  expect(await look(deps, id)).toBe(true);
  expect(await look(deps, id)).toBe(false);
  expect(await evaluationsOf(deps, projectId)).toHaveLength(1);
  const next = (await triggerRow(deps, id)).due_at?.getTime() ?? 0;
  expect(next).toBeGreaterThan(Date.now() - 60_000);
  expect(next).toBeLessThanOrEqual(Date.now() + 3_600_000);
  expect(next % 3_600_000).toBe(0);
});

test("a time at which the repository did not answer is caught up when it does", async () => {
  const { id, projectId } = await due();
  api.git.resolve = async () => {
    throw new DomainError("repository_unreachable", "the repository cannot be read: no answer within 30 s");
  };
  await look(deps, id);
  const row = await triggerRow(deps, id);
  expect(row).toMatchObject({ failures: 1, last_error: expect.stringContaining("no answer"), last_fired_at: null });
  expect((row.due_at?.getTime() ?? 0) - (row.last_checked_at?.getTime() ?? 0)).toBeLessThanOrEqual(33_001);

  api.git.resolve = async () => ({ commit: COMMIT, ref: "HEAD" });
  await dueSince(id, 0.01);
  await look(deps, id);
  expect(await evaluationsOf(deps, projectId)).toHaveLength(1);
  expect(await triggerRow(deps, id)).toMatchObject({ failures: 0, last_error: null });
});

test("a project, or a trigger, that was switched off does not catch up what passed meanwhile", async () => {
  const { id, projectId, projectName } = await due();
  const path = `/projects/acme/${projectName}`;
  await api.ask("DELETE", `${path}/active`);
  await dueSince(id, 5);
  await api.ask("POST", `${path}/active`);
  expect(await look(deps, id)).toBe(false);

  await api.ask("PATCH", `${path}/triggers/${id}`, api.admin, { active: false });
  await dueSince(id, 5);
  await api.ask("PATCH", `${path}/triggers/${id}`, api.admin, { active: true });
  expect(await look(deps, id)).toBe(false);
  expect(await evaluationsOf(deps, projectId)).toEqual([]);
});
