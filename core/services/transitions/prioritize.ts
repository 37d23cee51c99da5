import { findBuildLinkState } from "../../db/build-links.ts";
import {
  listLessUrgent,
  listOpenBelow,
  listUrgentEvaluations,
  raiseBuilds,
  resetEndedPriorities,
  setBuildPriority,
  setEvaluationPriority,
} from "../../db/priorities.ts";
import { ACTIVE_EVALUATION, OPEN_BUILD } from "../../domain/states.ts";
import { DomainError } from "../../errors.ts";
import { chunksOf } from "../../lib/chunks.ts";
import type { TransitionDeps } from "./deps.ts";

/** Rows that one statement locks: others who want them wait no longer than that takes. */
const CHUNK = 1_000;
/** What one call puts up. Of a build, more than that below it is far from its turn. */
const BELOW_MAX = 50_000;

type PriorityDeps = Pick<TransitionDeps, "db" | "notifier">;

/**
 * Sets how urgent a build is, and makes everything that it waits for as urgent at least. It lasts as long as the build
 * is open. Throws `not_found`, or `conflict` when it has ended.
 */
export async function prioritizeBuild(deps: PriorityDeps, linkId: string, priority: number): Promise<void> {
  const link = await findBuildLinkState(deps.db, linkId);
  if (!link) throw new DomainError("not_found", "Build not found");
  const isOpen = (OPEN_BUILD as readonly number[]).includes(link.build_status) && link.outcome === null;
  if (!isOpen || !(ACTIVE_EVALUATION as readonly number[]).includes(link.evaluation_status)) {
    throw new DomainError("conflict", "the build has ended already");
  }
  const ids = await listOpenBelow(deps.db, link.build_id, BELOW_MAX);
  for (const chunk of chunksOf(ids.sort(), CHUNK)) await raiseBuilds(deps.db, chunk, priority);
  await setBuildPriority(deps.db, link.build_id, priority);
  deps.notifier.notify("work", link.organization_id);
}

/**
 * Sets how urgent an evaluation is: among those that are queued, and for all of its builds, which are put up by and by
 * (`raisePriorities`) and never down, since others may want them. Throws `conflict` when it has ended.
 */
export async function prioritizeEvaluation(deps: PriorityDeps, evaluationId: string, priority: number): Promise<void> {
  if (!(await setEvaluationPriority(deps.db, evaluationId, priority))) {
    throw new DomainError("conflict", "the evaluation has ended already");
  }
  if (priority > 0) await raiseEvaluation(deps, evaluationId, priority);
}

/** Puts up what urgent evaluations have found since, and lets go of what has ended. To be called every few seconds. */
export async function raisePriorities(deps: PriorityDeps): Promise<void> {
  for (const { id, priority } of await listUrgentEvaluations(deps.db)) await raiseEvaluation(deps, id, priority);
  await resetEndedPriorities(deps.db);
}

async function raiseEvaluation({ db, notifier }: PriorityDeps, id: string, priority: number): Promise<void> {
  const ids = await listLessUrgent(db, id, { priority, limit: BELOW_MAX });
  if (ids.length === 0) return;
  for (const chunk of chunksOf(ids.sort(), CHUNK)) await raiseBuilds(db, chunk, priority);
  const row = await db.selectFrom("evaluation").select("organization_id").where("id", "=", id).executeTakeFirst();
  // Deleted meanwhile, it has no builds.
  if (row) notifier.notify("work", row.organization_id);
}
