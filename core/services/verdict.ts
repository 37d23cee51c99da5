import type { VerdictView } from "../api/verdicts.ts";
import { findEvaluationCommit } from "../db/evaluations-read.ts";
import {
  countBuildsByStatus,
  listAttributeStates,
  listCauses,
  listEvaluationErrors,
  listFailedNames,
  listOwnFailures,
  listRedAttributes,
  readFailureGraph,
} from "../db/verdict-facts.ts";
import { findVerdict, listOpenVerdicts, openMissingVerdicts, postponeVerdict, writeVerdict } from "../db/verdicts.ts";
import type { Actor } from "../domain/actor.ts";
import { ACTIVE_EVALUATION, BuildStatus, EvaluationStatus } from "../domain/states.ts";
import { judge } from "../domain/verdict.ts";
import type { VerdictFacts } from "../domain/verdict-facts.ts";
import { SECOND } from "../lib/clock.ts";
import type { Logger } from "../ports/logger.ts";
import type { LogReadDeps } from "./build-logs-read.ts";
import { requireEvaluation } from "./evaluations.ts";
import { readDecisiveLines } from "./verdict-lines.ts";
import { asWalk } from "./walks.ts";

/** The last lines of a log may arrive after the result of its build. */
const SETTLE_MS: number = 10 * SECOND;
const ATTRIBUTES_MAX = 10_000;
const ERRORS_MAX = 1_000;
const ERROR_LENGTH_MAX = 4_000;
const CAUSES_MAX = 1_000;
/** PostgreSQL walks as many in about a second. */
const RED_MAX = { nodesMax: 100_000, edgesMax: 500_000, causesMax: CAUSES_MAX };
/** Logs that are read for one verdict; further failures go without lines. */
const LOGS_MAX = 50;
const VERDICTS_AT_A_TIME = 10;
const MISSING_AT_A_TIME = 1_000;

/**
 * Why the evaluation is red, as it was when it ended. It is written down shortly after the end, once; until then it is
 * computed from the same rows, which keep what the evaluation saw.
 */
export async function getVerdict(deps: LogReadDeps, actor: Actor, evaluationId: string): Promise<VerdictView> {
  const { status } = await requireEvaluation(deps, actor, evaluationId, "read");
  const isActive = (ACTIVE_EVALUATION as readonly number[]).includes(status);
  const found = isActive ? undefined : await findVerdict(deps.db, evaluationId);
  if (found?.record) return found.record;
  const evaluation = { id: evaluationId, status };
  return (await asWalk(actor, () => compute(deps, evaluation, found?.base_id ?? null))).verdict;
}

/** Notes which evaluations have no verdict since they ended before there were any. To be called once at the start. */
export async function noteMissingVerdicts({ db }: Pick<LogReadDeps, "db">, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await openMissingVerdicts(db, MISSING_AT_A_TIME)) > 0);
}

/**
 * Writes down the verdicts of evaluations that ended a moment ago; answers whether there may be more. One that cannot
 * be computed is tried again behind all others.
 */
export async function settleVerdicts(
  deps: LogReadDeps & { readonly log: Logger },
  signal: AbortSignal,
): Promise<boolean> {
  const ids = await listOpenVerdicts(deps.db, { settleMs: SETTLE_MS, limit: VERDICTS_AT_A_TIME });
  for (const id of ids) {
    if (signal.aborted) return false;
    try {
      if (!(await settle(deps, id))) await postponeVerdict(deps.db, id);
    } catch (error) {
      deps.log.warn("the verdict of an evaluation could not be written down; it is tried again", {
        evaluation: id,
        error,
      });
      await postponeVerdict(deps.db, id);
    }
  }
  return ids.length === VERDICTS_AT_A_TIME;
}

interface Judged {
  readonly id: string;
  readonly status: number;
}

/** False where a log cannot be read now that may be readable later. */
async function settle(deps: LogReadDeps, id: string): Promise<boolean> {
  const evaluation = await findEvaluationCommit(deps.db, id);
  const found = await findVerdict(deps.db, id);
  if (!evaluation || !found) return true;
  const { verdict, whole } = await asWalk(null, () => compute(deps, evaluation, found.base_id));
  if (!whole && !found.overdue) return false;
  await writeVerdict(deps.db, id, { ...verdict, final: true });
  return true;
}

/** `whole`: every log that tells something could be read. */
async function compute(
  deps: LogReadDeps,
  evaluation: Judged,
  baseId: string | null,
): Promise<{ readonly verdict: VerdictView; readonly whole: boolean }> {
  const { verdict, attemptIds } = judge(await gatherFacts(deps, evaluation, baseId));
  const failures = [...verdict.failures];
  let whole = true;
  for (const [index, attemptId] of attemptIds.slice(0, LOGS_MAX).entries()) {
    const failure = failures[index];
    if (attemptId === null || !failure) continue;
    const told = await readDecisiveLines(deps, attemptId);
    if (told) failures[index] = { ...failure, ...told };
    else whole = false;
  }
  return { verdict: { ...verdict, failures }, whole };
}

async function gatherFacts({ db }: LogReadDeps, evaluation: Judged, baseId: string | null): Promise<VerdictFacts> {
  const { id } = evaluation;
  const base = baseId === null ? undefined : await findEvaluationCommit(db, baseId);
  const attributes = await listAttributeStates(db, id, ATTRIBUTES_MAX + 1);
  const errors = await listEvaluationErrors(db, id, { limit: ERRORS_MAX, messageLengthMax: ERROR_LENGTH_MAX });
  // Of an aborted evaluation, what was only given up is no cause of anything.
  const aborted = evaluation.status !== EvaluationStatus.Aborted;
  const own = await listOwnFailures(db, id, { aborted, limit: CAUSES_MAX });
  const graph = await readFailureGraph(db, id, RED_MAX);
  const known = new Set(own.map((cause) => cause.id));
  const others = graph?.causes.map((cause) => cause.id).filter((cause) => !known.has(cause)) ?? [];
  const below = await listCauses(db, id, others);
  return {
    evaluation,
    base: base
      ? {
          id: base.id,
          commit: base.commit_hash,
          redAttributes: await listRedAttributes(db, base.id, ATTRIBUTES_MAX),
          failed: await listFailedNames(db, base.id, CAUSES_MAX),
        }
      : null,
    builds: await countBuildsByStatus(db, id),
    attributes: attributes.slice(0, ATTRIBUTES_MAX),
    errors,
    graph,
    causes: [...own, ...below.filter((cause) => aborted || cause.status !== BuildStatus.Aborted)],
    cut:
      attributes.length > ATTRIBUTES_MAX ||
      errors.length === ERRORS_MAX ||
      own.length === CAUSES_MAX ||
      (graph?.causes.length ?? 0) === CAUSES_MAX,
  };
}
