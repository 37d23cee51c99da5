import { insertMessage } from "../db/evaluation-graph.ts";
import { findDeployingProject } from "../db/projects.ts";
import { type DeletedBuilds, deleteQueuedBuilds, queueOrphanBuilds } from "../db/retention-builds.ts";
import {
  deleteEvaluation,
  deleteLinks,
  listLastingBuilds,
  listOldEvaluations,
  lockEndedEvaluation,
  type OldEvaluation,
} from "../db/retention-evaluations.ts";
import { forgetMark } from "../db/retention-marks.ts";
import { type DeletedNars, deleteQueuedNars, deleteUnusedCacheLogs, queueUnnamedNars } from "../db/retention-nars.ts";
import { type GracedRequest, QUEUE_BEGIN, type QueuePlace } from "../db/retention-queue.ts";
import { inTransaction } from "../db/transaction.ts";
import { MessageLevel } from "../domain/states.ts";
import { derivedUuid, uuidV7 } from "../lib/ids.ts";
import { findDeployBranch } from "./deployments-fleet.ts";
import type { RetentionDeps } from "./retention-deps.ts";

/** Evaluations that are looked up at once. */
const EVALUATIONS_MAX = 10_000;
/** A link is small, and a transaction of these takes about a tenth of a second. */
const LINKS_MAX = 5_000;
/** Each takes its attempts, logs, outputs and edges along. */
const BUILDS_MAX = 500;
const NARS_MAX = 500;

/**
 * Deletes evaluations beyond those that their projects keep. One that holds the last success of an entry point which is
 * still asked for stays, with nothing but that: it is what "the latest build" means.
 */
export async function sweepEvaluations(deps: RetentionDeps, signal: AbortSignal): Promise<{ evaluations: number }> {
  let evaluations = 0;
  for (let after: OldEvaluation | null = null; ; ) {
    const page = { after, limit: EVALUATIONS_MAX };
    const old: readonly OldEvaluation[] = await listOldEvaluations(deps.db, deps.retention.keepEvaluations, page);
    evaluations += await sweepListed(deps, old, signal);
    // Those that stay for their last successes are listed each time: only the end of the list is the end.
    after = old.at(-1) ?? null;
    if (signal.aborted || old.length < EVALUATIONS_MAX) return { evaluations };
  }
}

async function sweepListed(deps: RetentionDeps, old: readonly OldEvaluation[], signal: AbortSignal): Promise<number> {
  let evaluations = 0;
  for (const [projectId, ofProject] of Map.groupBy(old, ({ project_id }) => project_id)) {
    const branch = await deployBranchOfProject(deps, projectId);
    const kept = await listLastingBuilds(deps.db, projectId, branch);
    const lasting = Map.groupBy(kept, ({ evaluation_id }) => evaluation_id);
    for (const { id } of ofProject) {
      const builds = (lasting.get(id) ?? []).map(({ build_id }) => build_id);
      let left: "more" | "done" = "more";
      while (!signal.aborted && left === "more") left = await takeFromEvaluation(deps, id, builds);
      if (left === "done" && builds.length === 0) evaluations++;
    }
  }
  return evaluations;
}

/** What hosts are to run stays, whatever other branches were built since. */
async function deployBranchOfProject({ db }: RetentionDeps, projectId: string): Promise<string | null> {
  const project = await findDeployingProject(db, projectId);
  return project ? await findDeployBranch({ db }, project) : null;
}

async function takeFromEvaluation(
  { db, ...ports }: RetentionDeps,
  id: string,
  lasting: readonly string[],
): Promise<"more" | "done"> {
  const message = "only its latest successful builds are kept: newer evaluations have taken the place of the others";
  const notice = { level: MessageLevel.Notice, message, source: "retention", attribute: null };
  const noticeId = await derivedUuid(id, "retention");
  return await inTransaction(
    db,
    async (trx) => {
      if (!(await lockEndedEvaluation(trx, id))) return "done";
      const links = await deleteLinks(trx, id, { lasting, limit: LINKS_MAX });
      if (links === LINKS_MAX) return "more";
      if (lasting.length === 0) await deleteEvaluation(trx, id);
      else if (links > 0) await insertMessage(trx, { id: noticeId, evaluation_id: id, ...notice });
      return "done";
    },
    ports,
  );
}

/** Deletes builds that no evaluation links and nothing rests on, with their attempts, logs and derivations. */
export async function sweepBuilds(deps: RetentionDeps, signal: AbortSignal): Promise<{ builds: number }> {
  const graceMs = deps.retention.orphanBuildMs;
  return await withQueue(deps, async (markId) => {
    let builds = 0;
    if ((await queueOrphanBuilds(deps.db, markId, graceMs)) === 0) return { builds };
    for (let place: QueuePlace | null = QUEUE_BEGIN; place && !signal.aborted; ) {
      const from: GracedRequest = { graceMs, place, limit: BUILDS_MAX };
      const done: DeletedBuilds = await inTransaction(deps.db, (trx) => deleteQueuedBuilds(trx, markId, from), deps);
      place = done.next;
      builds += done.builds;
    }
    return { builds };
  });
}

/** Deletes NARs that no path of any cache is served from. Their objects go later. */
export async function sweepNars(
  deps: RetentionDeps,
  signal: AbortSignal,
): Promise<{ nars: number; nar_bytes: number; cache_logs: number }> {
  const graceMs = deps.retention.uploadGraceMs;
  const cacheLogs = await deleteUnusedCacheLogs(deps.db, { graceMs, limit: LINKS_MAX });
  return await withQueue(deps, async (markId) => {
    const sum = { nars: 0, nar_bytes: 0, cache_logs: cacheLogs };
    if ((await queueUnnamedNars(deps.db, markId, graceMs)) === 0) return sum;
    for (let place: QueuePlace | null = QUEUE_BEGIN; place && !signal.aborted; ) {
      const from: GracedRequest = { graceMs, place, limit: NARS_MAX };
      const done: DeletedNars = await inTransaction(deps.db, (trx) => deleteQueuedNars(trx, markId, from), deps);
      place = done.next;
      sum.nars += done.nars;
      sum.nar_bytes += done.bytes;
    }
    return sum;
  });
}

async function withQueue<T>(deps: RetentionDeps, work: (markId: string) => Promise<T>): Promise<T> {
  const markId = uuidV7(deps.clock.now(), deps.random);
  try {
    return await work(markId);
  } finally {
    await forgetMark(deps.db, markId);
  }
}
