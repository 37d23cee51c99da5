import type {
  DispatchedJob,
  DispatchedJobs,
  JobDetail,
  PendingJobs,
  ScoringQuery,
  ScoringSummary,
} from "../api/board.ts";
import { zonedTime } from "../api/times.ts";
import {
  type BoardJobRow,
  type BoardScope,
  countHiddenPending,
  countHiddenRunning,
  findJob,
  listEarlierAttempts,
  listPendingJobs,
  listRunningJobs,
  listScores,
} from "../db/board-jobs.ts";
import type { Actor } from "../domain/actor.ts";
import { organizationMask } from "../domain/permissions.ts";
import { describeRule, RULE_NAMES } from "../domain/scheduling/rules.ts";
import { summarizeScores } from "../domain/scheduling/summary.ts";
import { DomainError } from "../errors.ts";
import type { ServiceDeps } from "./deps.ts";

const JOBS_MAX = 500;
const HIDDEN_MAX = 10_000;
const EARLIER_MAX = 50;

type BoardDeps = Pick<ServiceDeps, "db">;

export async function listDispatched({ db }: BoardDeps, actor: Actor): Promise<DispatchedJobs> {
  const scope = scopeOf(actor);
  const rows = await listRunningJobs(db, scope, JOBS_MAX);
  return { jobs: rows.map(viewJob), other_running: await countHiddenRunning(db, scope) };
}

export async function listPending({ db }: BoardDeps, actor: Actor): Promise<PendingJobs> {
  const scope = scopeOf(actor);
  const rows = await listPendingJobs(db, scope, JOBS_MAX);
  const jobs = rows.map((row) => ({
    kind: row.kind,
    organization: row.organization_id,
    evaluation_id: row.evaluation_id,
    build_id: row.link_id,
    queued_at: zonedTime(row.queued_at),
    dependency_count: row.dependency_count,
    pname: row.package_name,
  }));
  return { jobs, other_pending: await countHiddenPending(db, scope, HIDDEN_MAX) };
}

/** One assignment, and why it was made so. What the actor may not see looks like what does not exist. */
export async function getJob({ db }: BoardDeps, actor: Actor, id: string): Promise<JobDetail> {
  const row = await findJob(db, scopeOf(actor), id);
  if (!row) throw new DomainError("not_found", "Job not found");
  const { score, assigned_at, finished_at } = row;
  const earlier = await listEarlierAttempts(db, row, EARLIER_MAX);
  const waitedMs = typeof score?.job.waitedMs === "number" ? score.job.waitedMs : null;
  return {
    ...viewJob(row),
    organization_name: row.organization_name,
    queued_at: waitedMs === null ? null : zonedTime(new Date(assigned_at.getTime() - waitedMs)),
    finished_at: finished_at && zonedTime(finished_at),
    score_breakdown: RULE_NAMES.flatMap((rule) => {
      const points = score?.rules[rule];
      return points === undefined ? [] : [{ rule, score: points }];
    }),
    worker_context: score?.worker ?? null,
    job_context: score?.job ?? null,
    instance_context: score?.instance ?? null,
    previous_attempts: earlier.map((attempt) => ({
      dispatched_job_id: attempt.id,
      outcome: attempt.outcome,
      reason: attempt.reason,
      failure_message: attempt.message,
      created_at: zonedTime(attempt.assigned_at),
    })),
  };
}

export function listRules(): readonly { readonly rule: string; readonly description: string }[] {
  return RULE_NAMES.map((rule) => ({ rule, description: describeRule(rule) }));
}

export async function summarizeScoring(
  { db }: BoardDeps,
  actor: Actor,
  { window_hours: windowHours, limit }: ScoringQuery,
): Promise<ScoringSummary> {
  return summarizeScores(await listScores(db, scopeOf(actor), { windowHours, limit }), RULE_NAMES);
}

/** A superuser sees everything, but not through a key: those are for what they were made for. */
function scopeOf({ user, key }: Actor): BoardScope {
  const userId = key?.cacheId ? null : (user?.id ?? null);
  return {
    everything: user?.superuser === true && !key,
    userId,
    permissions: organizationMask(["viewOrg"]) & (key?.permissions ?? ~0),
    organizationId: key?.organizationId ?? null,
  };
}

function viewJob(row: BoardJobRow): DispatchedJob {
  return {
    id: row.id,
    kind: row.kind,
    organization: row.organization_id,
    worker_id: row.member ? row.worker_id : null,
    score: row.score?.total ?? null,
    dispatched_at: zonedTime(row.assigned_at),
    build_id: row.link_id,
    evaluation_id: row.evaluation_id,
    pname: row.package_name,
  };
}
