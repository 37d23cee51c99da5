import { listConnectedWorkers } from "../../db/connected-workers.ts";
import {
  type BlockedBuilds,
  countBlockedBuilds,
  listGoingOn,
  listWaitingEvaluations,
  queueEvaluationsWithCache,
  updateWaiting,
  type WaitingCandidate,
  type WaitingChange,
} from "../../db/evaluation-waiting.ts";
import { listReadyQueues } from "../../db/ready-builds.ts";
import { isDraining } from "../../db/scheduler-state.ts";
import { needKey } from "../../domain/scheduling/choose.ts";
import type { BuildNeed } from "../../domain/scheduling/eligibility.ts";
import { explainBuilding, explainQueued, type Fleet, unmetNeeds } from "../../domain/scheduling/waiting.ts";
import type { WaitingReason } from "../../domain/scheduling/waiting-reason.ts";
import { EvaluationStatus } from "../../domain/states.ts";
import { type TransitionDeps, transition } from "./deps.ts";

const QUEUES_MAX = 10_000;

/**
 * Brings what evaluations say they wait for in line with what is connected: to any server, since reasons are for all.
 * True when one of them goes on by that, so that dispatch may find more. An evaluation is Waiting when nothing of it
 * goes on; one of which only a part waits goes on, and says why that part does not.
 */
export async function reconcileWaiting(deps: TransitionDeps): Promise<boolean> {
  const released = await releaseCacheGates(deps);
  const fleet: Fleet = { workers: await listConnectedWorkers(deps.db), draining: await isDraining(deps.db) };
  const needs = distinctNeeds(await listReadyQueues(deps.db, QUEUES_MAX));
  const unmet = unmetNeeds(needs, fleet);
  const waiting = await listWaitingEvaluations(deps.db);
  const queued = waiting.filter(({ building }) => !building).flatMap((evaluation) => queuedChange(evaluation, fleet));
  const building = await buildingChanges(
    deps,
    waiting.filter((evaluation) => evaluation.building),
    unmet,
    fleet,
  );
  const changes = [...queued, ...building];
  if (changes.length === 0) return released;
  await transition(deps, async (trx, wakeups) => {
    wakeups.evaluations(await updateWaiting(trx, changes));
  });
  return released || queued.some(({ status }) => status === EvaluationStatus.Queued);
}

async function releaseCacheGates({ db, notifier }: TransitionDeps): Promise<boolean> {
  const queued = await queueEvaluationsWithCache(db);
  for (const { id } of queued) notifier.notify("evaluation", id);
  return queued.length > 0;
}

function distinctNeeds(needs: readonly BuildNeed[]): BuildNeed[] {
  return [
    ...new Map(
      needs.map(({ organizationId, system, requiredFeatures }) => {
        const need = { organizationId, system, requiredFeatures };
        return [needKey(need), need];
      }),
    ).values(),
  ];
}

function queuedChange(evaluation: WaitingCandidate, fleet: Fleet): WaitingChange[] {
  const { id, status, reason: before } = evaluation;
  const reason = explainQueued(evaluation, fleet);
  const next = reason ? EvaluationStatus.Waiting : EvaluationStatus.Queued;
  return changed({ id, before: { status, reason: before }, status: next, reason });
}

async function buildingChanges(
  { db }: TransitionDeps,
  waiting: readonly WaitingCandidate[],
  unmet: readonly BuildNeed[],
  fleet: Fleet,
): Promise<WaitingChange[]> {
  const blocked = Map.groupBy(await countBlockedBuilds(db, unmet), ({ evaluationId }) => evaluationId);
  const goingOn = await listGoingOn(db, [...blocked.keys()], unmet);
  const stopped = Array.from(blocked, ([id, rows]) => {
    const { organizationId, status, reason: before } = rows[0] as BlockedBuilds;
    const reason = explainBuilding(organizationId, rows.map(unmetNeed), fleet);
    const next = goingOn.has(id) ? EvaluationStatus.Building : EvaluationStatus.Waiting;
    return changed({ id, before: { status, reason: before }, status: next, reason });
  });
  const resumed = waiting
    .filter(({ id }) => !blocked.has(id))
    .map(({ id, status, reason: before }) =>
      changed({ id, before: { status, reason: before }, status: EvaluationStatus.Building, reason: null }),
    );
  return [...stopped, ...resumed].flat();
}

function unmetNeed({ system, requiredFeatures, count }: BlockedBuilds) {
  return { architecture: system, required_features: requiredFeatures, build_count: count };
}

function changed(change: WaitingChange): WaitingChange[] {
  const { before, status, reason } = change;
  return before.status === status && sameReason(before.reason, reason) ? [] : [change];
}

function sameReason(one: WaitingReason | null, other: WaitingReason | null): boolean {
  return canonical(one) === canonical(other);
}

/** The database gives an object's keys in an order of its own. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    part !== null && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
