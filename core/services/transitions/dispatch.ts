import { listQueuedEvaluations } from "../../db/evaluation-claims.ts";
import {
  type CandidateRow,
  countRunningBuilds,
  listCandidates,
  listReadyQueues,
  type ReadyQueue,
} from "../../db/ready-builds.ts";
import { isDraining } from "../../db/scheduler-state.ts";
import type { DispatchScore } from "../../db/tables/scheduling.ts";
import { type BuildDefaults, buildLimits } from "../../domain/build-limits.ts";
import { type Candidate, type Choice, chooseBuilds, type FreeWorker } from "../../domain/scheduling/choose.ts";
import { chooseEvaluations } from "../../domain/scheduling/choose-evaluations.ts";
import { canEvaluate, refuseBuild } from "../../domain/scheduling/eligibility.ts";
import { DEPENDENTS_MAX } from "../../domain/scheduling/facts.ts";
import { medianOf } from "../../domain/scheduling/history.ts";
import { HOUR } from "../../lib/clock.ts";
import { type AssignedBuild, type AssignedEvaluation, assignBuilds, assignEvaluations } from "./assign.ts";
import type { TransitionDeps } from "./deps.ts";
import type { InputOrigin, InputOrigins } from "./input-origins.ts";
import { resolveReady } from "./resolve.ts";

/** Candidates of one queue beyond its free places: among so many the points decide. */
const CANDIDATES_SPARE = 16;
/** Candidates that one pass looks at. With 10 points of each queue at least: no queue hides another. */
const CANDIDATES_MAX = 512;
/** Of one queue in one pass, so that a pass is short and what is free first is given out first. */
const BUILDS_A_PASS = 256;
const QUEUES_MAX = 10_000;
const EVALUATIONS_A_PASS = 16;
/** For all that is no building: inputs come before it and outputs go after it. */
export const UNANSWERED_GRACE_MS: number = 1 * HOUR;

export interface DispatchDeps extends TransitionDeps {
  readonly limits: { readonly build: BuildDefaults; readonly evaluation: { readonly timeoutMs: number } };
}

export interface DispatchedBuild extends AssignedBuild {
  /** Of the worker's session. */
  readonly key: string;
  /** The number of the worker's group. */
  readonly group: number;
}

/**
 * One pass: fills free places of these workers with what is ready. `chosen` says for how many places something was
 * found; fewer are given out when others took some of it meanwhile, and then another pass may find more. `resolve` may
 * be false when no build has become ready since the last pass.
 */
export async function dispatchBuilds(
  deps: DispatchDeps,
  workers: readonly FreeWorker[],
  inputs: InputOrigins,
  { resolve = true }: { readonly resolve?: boolean } = {},
): Promise<{ readonly assigned: readonly DispatchedBuild[]; readonly chosen: number }> {
  const none = { assigned: [], chosen: 0 };
  // Also when nobody is free: what was built before in other words needs no worker.
  if (resolve) await resolveReady(deps);
  const free = workers.filter(({ groups }) => groups.some(({ places }) => places > 0));
  if (free.length === 0) return none;
  const queues = withLimits(await listReadyQueues(deps.db, QUEUES_MAX), free);
  const rows = await listCandidates(deps.db, queues, { dependentsMax: DEPENDENTS_MAX });
  if (rows.length === 0) return none;
  const origins = await inputs.of(
    deps.db,
    rows.flatMap(({ needs }) => needs.map(({ id }) => id)),
  );
  const candidates = rows.map((row) => candidateOf(row, origins));
  const contested = new Set(rows.map(({ organizationId }) => organizationId)).size > 1;
  const running = contested ? await countRunningBuilds(deps.db) : new Map<string, number>();

  const choices = chooseBuilds(candidates, free, running);
  const byId = new Map(rows.map((row) => [row.id, row]));
  const claims = choices.map((choice) => ({
    buildId: choice.buildId,
    workerId: choice.workerId,
    deadlineMs: deadlineOf(byId.get(choice.buildId) as CandidateRow, deps.limits.build),
    score: scoreOf(choice, candidates.length, free.length),
  }));
  const places = new Map(choices.map((choice) => [choice.buildId, choice]));
  const assigned = (await assignBuilds(deps, claims)).map((build) => {
    const { key, group } = places.get(build.id) as Choice;
    const { needs } = byId.get(build.id) as CandidateRow;
    inputs.gave(
      needs.map(({ id }) => id),
      build.workerId,
    );
    return { ...build, key, group };
  });
  return { assigned, chosen: choices.length };
}

/** The queues that may get a place, with how much of each is looked at. */
function withLimits(
  queues: readonly ReadyQueue[],
  workers: readonly FreeWorker[],
): (ReadyQueue & { readonly limit: number })[] {
  const wanted = queues.flatMap((queue) => {
    const places = freePlaces(queue, workers);
    return places > 0 ? [{ ...queue, limit: Math.min(places, BUILDS_A_PASS) + CANDIDATES_SPARE }] : [];
  });
  const sum = wanted.reduce((total, { limit }) => total + limit, 0);
  const scale = Math.min(1, CANDIDATES_MAX / sum);
  return wanted.map((queue) => ({ ...queue, limit: Math.max(1, Math.floor(queue.limit * scale)) }));
}

function freePlaces(queue: ReadyQueue, workers: readonly FreeWorker[]): number {
  let places = 0;
  for (const worker of workers) {
    for (const group of worker.groups) if (refuseBuild(queue, worker, group) === null) places += group.places;
  }
  return places;
}

function candidateOf(row: CandidateRow, origins: ReadonlyMap<string, InputOrigin>): Candidate {
  const { id, organizationId, system, requiredFeatures, failed_workers: failedWorkers } = row;
  const bytesAt = new Map<string, number>();
  let inputBytes = 0;
  for (const { id: needed, outputs } of row.needs) {
    const { holders = [], bytes = {} } = origins.get(needed) ?? {};
    const size = outputs.reduce((sum, output) => sum + (bytes[output] ?? 0), 0);
    inputBytes += size;
    for (const worker of holders) bytesAt.set(worker, (bytesAt.get(worker) ?? 0) + size);
  }
  return {
    id,
    organizationId,
    system,
    requiredFeatures,
    failedWorkers,
    bytesAt,
    job: {
      priority: row.priority,
      waitedMs: Math.round(row.waited_ms),
      dependents: row.dependents,
      expectedMs: row.durations_ms === null ? null : medianOf(row.durations_ms),
      expectedMemoryMb: row.peak_memory_mb,
      preferLocal: row.prefer_local_build,
      requiredFeatures: requiredFeatures.length,
      inputBytes,
    },
  };
}

function deadlineOf(row: CandidateRow, defaults: BuildDefaults): number | null {
  const { timeout_ms } = buildLimits(row, defaults);
  return timeout_ms === 0 ? null : timeout_ms + UNANSWERED_GRACE_MS;
}

function scoreOf({ score, job, place, instance }: Choice, candidates: number, workers: number): DispatchScore {
  const { total, rules } = score;
  return {
    total,
    rules: rules as Readonly<Record<string, number>>,
    job: { ...job },
    worker: { ...place },
    instance: { ...instance, candidates, workers },
  };
}

export interface DispatchedEvaluation extends AssignedEvaluation {
  /** Of the worker's session. */
  readonly key: string;
  /** The number of the worker's group of evaluations. */
  readonly group: number;
}

/** One pass over queued evaluations: at most one for each worker with a place, so that they spread. */
export async function dispatchEvaluations(
  deps: DispatchDeps,
  workers: readonly FreeWorker[],
): Promise<readonly DispatchedEvaluation[]> {
  const free = workers.filter(({ evaluationPlaces, draining }) => evaluationPlaces > 0 && !draining);
  const organizationIds = [
    ...new Set(
      free.flatMap((worker) =>
        worker.grants.flatMap(({ organizationId }) =>
          canEvaluate(organizationId, "fetch", worker) || canEvaluate(organizationId, "eval", worker)
            ? [organizationId]
            : [],
        ),
      ),
    ),
  ];
  if (organizationIds.length === 0) return [];
  const queued = await listQueuedEvaluations(deps.db, organizationIds, EVALUATIONS_A_PASS);
  if (queued.length === 0 || (await isDraining(deps.db))) return [];
  const { timeoutMs } = deps.limits.evaluation;
  const deadlineMs = timeoutMs === 0 ? null : timeoutMs + UNANSWERED_GRACE_MS;
  const choices = chooseEvaluations(queued, free).map(({ evaluationId, part, group, worker: { workerId, key } }) => ({
    evaluationId,
    part,
    workerId,
    key,
    group,
    deadlineMs,
  }));
  const places = new Map(choices.map(({ evaluationId, key, group }) => [evaluationId, { key, group }]));
  const assigned = await assignEvaluations(deps, choices);
  return assigned.map((evaluation) => ({
    ...evaluation,
    ...(places.get(evaluation.id) as Pick<DispatchedEvaluation, "key" | "group">),
  }));
}
