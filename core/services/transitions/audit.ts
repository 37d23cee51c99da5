import { endAttempts } from "../../db/attempts.ts";
import {
  type BuildFault,
  deleteEndedSessions,
  type FaultyBuild,
  listBuildIds,
  listBuildsWithoutLease,
  listEndedDependencies,
  listEvaluationsWithoutLease,
  listFaultyBuilds,
  listNeededPaths,
  listStrayEvaluationAttempts,
  lockStrayAttempts,
  mendTimes,
} from "../../db/audit.ts";
import { lockBuilds } from "../../db/build-transitions.ts";
import { recountBuilds } from "../../db/loss.ts";
import { databaseNow } from "../../db/time.ts";
import { AttemptOutcome, EVALUATING, EvaluationStatus } from "../../domain/states.ts";
import { DAY } from "../../lib/clock.ts";
import { parseStorePathBaseName, type StorePath } from "../../nix/store-path.ts";
import { availablePathsWithUpstreams, pathsWithinReach } from "../paths-availability.ts";
import type { Upstreams } from "../upstreams.ts";
import { concludeBuilds, requeueBuilds } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import { loseOutputs, reopenWanted } from "./loss.ts";

export interface AuditDeps extends TransitionDeps {
  readonly upstreams: Upstreams;
}

/** How often each thing was found that must not be, and mended. All zero when every transition did its work. */
export type AuditFindings = Readonly<Record<BuildFault | "evaluation" | "attempt" | "output", number>>;

/** Builds that are looked at together, and mended in one transaction. */
const CHUNK = 1_000;
const ROWS_MAX = 1_000;
/** Ended sessions are kept for so long, for whoever looks what happened. */
const KEEP_SESSIONS_MS: number = 30 * DAY;

/**
 * Compares what transitions keep up to date with the facts it follows from, and mends what differs: counters, edges,
 * readiness, leases, evaluations that nobody evaluates, and outputs that no cache has. It looks at a part at a time, so
 * that it holds up nothing. What it finds is a fault of ours or of the machine, and is logged as an error.
 */
export async function auditGraph(deps: AuditDeps, signal: AbortSignal): Promise<AuditFindings> {
  const found = { counter: 0, edge: 0, readiness: 0, lease: 0, dependency: 0, evaluation: 0, attempt: 0, output: 0 };
  found.evaluation += await mendEvaluations(deps);
  found.attempt += await mendEvaluationAttempts(deps);
  for (let after: string | null = null; !signal.aborted; ) {
    const ids: string[] = await listBuildIds(deps.db, after, CHUNK);
    found.output += await loseUnreachable(deps, ids);
    const faults = await listFaultyBuilds(deps.db, ids);
    for (const { fault } of faults) found[fault]++;
    if (faults.length > 0) await mendBuilds(deps, faults);
    if (ids.length < CHUNK) break;
    after = ids.at(-1) as string;
  }
  const all = Object.values(found).reduce((sum, count) => sum + count, 0);
  if (all > 0) deps.log.error("rows differed from the facts they follow from; they were mended", found);
  return found;
}

/** Removes rows of sessions that ended long ago. */
export async function pruneSessions({ db }: Pick<AuditDeps, "db">, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await deleteEndedSessions(db, KEEP_SESSIONS_MS, ROWS_MAX)) >= ROWS_MAX);
}

async function mendBuilds(deps: AuditDeps, faults: readonly FaultyBuild[]): Promise<void> {
  const ids = [...new Set(faults.map(({ id }) => id))];
  await transition(deps, async (trx, wakeups) => {
    const stray = await lockStrayAttempts(trx, ids);
    const builds = await lockBuilds(trx, ids);
    const end = { outcome: AttemptOutcome.Aborted, reason: null, message: "its build was not running" };
    await endAttempts(trx, stray, end);
    const without = await listBuildsWithoutLease(trx, ids);
    await recountBuilds(trx, ids);
    const counted = await lockBuilds(trx, without);
    const failed = await requeueBuilds(trx, counted);
    await mendTimes(trx, ids);
    await concludeBuilds(trx, wakeups, [...ids, ...failed]);
    wakeups.endedAttempts(stray);
    for (const { organization_id } of builds) wakeups.work(organization_id);
  });
  const waiting = faults.filter(({ fault }) => fault === "dependency").map(({ id }) => id);
  if (waiting.length > 0) await reopenWanted(deps, await listEndedDependencies(deps.db, waiting));
}

/** An upstream that does not answer has not lost anything. */
async function loseUnreachable(deps: AuditDeps, buildIds: readonly string[]): Promise<number> {
  const needed = await listNeededPaths(deps.db, buildIds);
  let lost = 0;
  for (const [organizationId, rows] of Map.groupBy(needed, ({ organization_id }) => organization_id)) {
    const paths = rows.flatMap(({ store_path }) => parseStorePathBaseName(store_path) ?? []);
    const reached = await pathsWithinReach(deps.db, organizationId, paths);
    const doubtful: StorePath[] = paths.filter((path) => !reached.has(path));
    if (doubtful.length === 0) continue;
    // Recorded by asking: what an upstream has is within reach afterwards.
    await availablePathsWithUpstreams(deps, organizationId, doubtful);
    lost += await loseOutputs(deps, doubtful, organizationId);
  }
  return lost;
}

async function mendEvaluations(deps: AuditDeps): Promise<number> {
  const ids = await listEvaluationsWithoutLease(deps.db, ROWS_MAX);
  let mended = 0;
  for (const id of ids) {
    await transition(deps, async (trx, wakeups) => {
      const queued = await trx
        .updateTable("evaluation")
        .set({ status: EvaluationStatus.Queued, updated_at: databaseNow })
        .where("id", "=", id)
        .where("status", "in", [...EVALUATING])
        .where(({ not, exists, selectFrom }) =>
          not(
            exists(
              selectFrom("attempt")
                .select("attempt.id")
                .whereRef("attempt.evaluation_id", "=", "evaluation.id")
                .where("attempt.finished_at", "is", null),
            ),
          ),
        )
        .returning("organization_id")
        .executeTakeFirst();
      if (!queued) return;
      mended++;
      wakeups.evaluations([id]);
      wakeups.work(queued.organization_id);
    });
  }
  return mended;
}

async function mendEvaluationAttempts(deps: AuditDeps): Promise<number> {
  return await transition(deps, async (trx, wakeups) => {
    const stray = await listStrayEvaluationAttempts(trx, ROWS_MAX);
    const end = { outcome: AttemptOutcome.Aborted, reason: null, message: "its evaluation was not under way" };
    await endAttempts(trx, stray, end);
    wakeups.endedAttempts(stray);
    return stray.length;
  });
}
