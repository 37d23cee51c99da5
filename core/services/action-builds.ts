import type { BuildEvent } from "../api/project-actions.ts";
import {
  type ChangedBuild,
  insertBuildDeliveries,
  listChangedBuilds,
  lockWatchedEvaluation,
  noteToldBuilds,
  noteWatched,
  type WatchedEvaluation,
} from "../db/action-builds.ts";
import { inTransaction } from "../db/transaction.ts";
import { BuildStatus } from "../domain/states.ts";
import type { ServiceDeps } from "./deps.ts";

/** Of one evaluation at a time: a transaction holds no more rows than that. */
const BUILDS_MAX = 1_000;
const LOOK_AGAIN_MS = 2_000;
/** Of one action. */
const PENDING_MAX = 10_000;

/**
 * Looks at one of the evaluations whose builds actions want to know of, and writes down what is to be told. What
 * happened between two looks is told as well, in its order; only a build that failed for a while and was tried again
 * within that may do it unseen. False when there is nothing to look at now.
 */
export async function tellBuilds(deps: Pick<ServiceDeps, "db" | "clock" | "random">): Promise<boolean> {
  return await inTransaction(
    deps.db,
    async (trx) => {
      const evaluation = await lockWatchedEvaluation(trx, { lookAgainMs: LOOK_AGAIN_MS, pendingMax: PENDING_MAX });
      if (!evaluation) return false;
      const builds = await listChangedBuilds(trx, evaluation.id, BUILDS_MAX);
      const tellings = builds.flatMap((build) => tell(evaluation, build));
      await insertBuildDeliveries(trx, evaluation.project_id, tellings);
      await noteToldBuilds(trx, builds);
      // Of an evaluation that has ended nothing changes any more.
      await noteWatched(trx, evaluation.id, { over: evaluation.ended && builds.length < BUILDS_MAX });
      return true;
    },
    deps,
  );
}

function tell({ id, project_id, repository, kind }: WatchedEvaluation, build: ChangedBuild) {
  const facts = {
    evaluation_id: id,
    project_id,
    repository,
    kind,
    build_id: build.link_id,
    derivation: build.drv_path,
  };
  return buildEvents(build.told, build.status).map(({ event, status }) => ({
    event,
    facts: JSON.stringify({ ...facts, status }),
  }));
}

interface BuildStep {
  readonly event: BuildEvent;
  readonly status: number;
}

const CREATED: BuildStep = { event: "build.created", status: BuildStatus.Created };
const QUEUED: BuildStep = { event: "build.queued", status: BuildStatus.Queued };
const STARTED: BuildStep = { event: "build.started", status: BuildStatus.Building };
/** What has no event of its own: it was given up, or something below it failed. */
const ENDS: ReadonlyMap<number, BuildEvent> = new Map([
  [BuildStatus.Completed, "build.completed"],
  [BuildStatus.FailedPermanent, "build.failed"],
  [BuildStatus.FailedTimeout, "build.failed"],
  [BuildStatus.Substituted, "build.substituted"],
]);
/** Only after these comes an end that a worker brings about. */
const RUN: readonly number[] = [BuildStatus.Completed, BuildStatus.FailedPermanent, BuildStatus.FailedTimeout];

/** The steps of a build from what was told of it (null: nothing) to what it is now. */
export function buildEvents(told: number | null, status: number): BuildStep[] {
  const steps: BuildStep[] = told === null ? [CREATED] : [];
  const wasQueued = told !== null && told !== BuildStatus.Created && told !== BuildStatus.FailedTransient;
  const runs = status === BuildStatus.Building || RUN.includes(status);
  if (!wasQueued && (runs || status === BuildStatus.Queued)) steps.push(QUEUED);
  else if (wasQueued && status === BuildStatus.Queued) steps.push(QUEUED);
  if (told !== BuildStatus.Building && runs) steps.push(STARTED);
  const event = ENDS.get(status);
  if (event) steps.push({ event, status });
  return steps;
}
