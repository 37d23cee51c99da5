import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { TriggerConfig } from "#core/api/triggers.ts";
import { insertTrigger, listDueTriggers } from "#core/db/triggers.ts";
import { EvaluationStatus } from "#core/domain/states.ts";
import { firstDue, storedConfig, triggerTypeNumber } from "#core/services/triggers-rules.ts";
import type { TriggerDeps } from "#core/services/triggers-run.ts";
import { lookAtTrigger } from "#core/services/triggers-run.ts";
import { git } from "#test/support/git.ts";
import { insertProjectRow, newId } from "#test/support/rows.ts";

/** A trigger that is due, of a project of its own. */
export async function dueTrigger(
  { db }: Pick<TriggerDeps, "db">,
  { organizationId, repository }: { readonly organizationId: string; readonly repository: string },
  config: TriggerConfig,
): Promise<{ readonly id: string; readonly projectId: string; readonly projectName: string }> {
  const projectName = `p-${newId()}`;
  const projectId = await insertProjectRow(db, { organizationId, name: projectName, repository });
  const id = newId();
  await insertTrigger(db, {
    id,
    project_id: projectId,
    type: triggerTypeNumber(config.type),
    config: storedConfig(config),
    active: true,
    // A second ago: times are due as well.
    due: config.type === "polling" ? firstDue(config, 0) : { inMs: -1_000 },
  });
  return { id, projectId, projectName };
}

/** Looks at this trigger once, as the loop would, if it is due. */
export async function look(deps: TriggerDeps, id: string): Promise<boolean> {
  const due = await listDueTriggers(deps.db, { limit: 1_000, except: [] });
  const trigger = due.find((candidate) => candidate.id === id);
  if (trigger) await lookAtTrigger(deps, trigger, new AbortController().signal);
  return trigger !== undefined;
}

/** The next look is now. */
export async function makeDue({ db }: Pick<TriggerDeps, "db">, id: string): Promise<void> {
  await db
    .updateTable("project_trigger")
    .set({ due_at: new Date(0) })
    .where("id", "=", id)
    .execute();
}

export async function triggerRow({ db }: Pick<TriggerDeps, "db">, id: string) {
  return await db.selectFrom("project_trigger").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
}

/** The oldest first. */
export async function evaluationsOf({ db }: Pick<TriggerDeps, "db">, projectId: string) {
  return await db.selectFrom("evaluation").selectAll().where("project_id", "=", projectId).orderBy("ordinal").execute();
}

export async function endEvaluationsOf({ db }: Pick<TriggerDeps, "db">, projectId: string): Promise<void> {
  await db
    .updateTable("evaluation")
    .set({ status: EvaluationStatus.Completed })
    .where("project_id", "=", projectId)
    .execute();
}

export interface Repository {
  readonly folder: string;
  /** Answers the new commit's hash. */
  commit(branch?: string): Promise<string>;
}

export async function makeRepository(root: string, name: string): Promise<Repository> {
  const folder = join(root, name);
  await mkdir(folder);
  await git(folder, "init", "--quiet");
  let number = 0;
  const commit = async (branch = "main"): Promise<string> => {
    await git(folder, "checkout", "--quiet", "-B", branch).catch(() => {});
    await writeFile(join(folder, "file"), String(number++));
    await git(folder, "add", "file");
    await git(folder, "commit", "--quiet", "-m", `commit ${number}`);
    const hash = await git(folder, "rev-parse", "HEAD");
    if (branch !== "main") await git(folder, "checkout", "--quiet", "main");
    return hash;
  };
  return { folder, commit };
}
