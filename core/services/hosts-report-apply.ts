import type { Transaction } from "kysely";
import {
  DEPLOYMENT_MODES,
  DEPLOYMENT_STEPS,
  type DeploymentStepName,
  HOST_HEALTH,
  type HostReportBody,
} from "../api/hosts.ts";
import { findRun, putRun, type RunFields, releaseHost, trimRuns } from "../db/deployments.ts";
import { HOST_PATH_ROLE, listHostPaths, setHostPaths, updateHost } from "../db/hosts.ts";
import { jsonbText } from "../db/json-text.ts";
import type { Database } from "../db/schema.ts";
import type { BuiltSystem, DeploymentRow, HostRow } from "../db/tables/deployment.ts";
import { healthySince, type RunView, reportStanding, rollbackPaths } from "../domain/deployment-report.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { ProjectAccess } from "./access.ts";
import { holdFailure } from "./deployments-holds.ts";
import type { ServiceDeps } from "./deps.ts";
import { findReportedSystem } from "./hosts-report-system.ts";

type ReportDeps = Pick<ServiceDeps, "clock" | "random">;

/** At one a day, three months. */
export const RUNS_MAX = 100;
const STEPS_MAX = 64;
const ROLLBACKS_MAX = 2;

const ENDS: readonly DeploymentStepName[] = ["succeeded", "failed", "rolled_back", "unchanged"];

/** Base names. */
export interface ReportedPaths {
  readonly wanted: string | null;
  readonly running: string | null;
  readonly booted: string | null;
}

export interface Reported {
  readonly host: HostRow;
  readonly project: ProjectAccess["project"];
  readonly body: HostReportBody;
  readonly paths: ReportedPaths;
  /** The database's clock. */
  readonly now: Date;
  /** Until then what the host runs stays in the caches. */
  readonly keptUntil: Date;
}

/** Whether it changed anything. Takes a transaction in which the host is locked. */
export async function applyReport(trx: Transaction<Database>, deps: ReportDeps, reported: Reported): Promise<boolean> {
  const { host, body, now } = reported;
  const run = await findRun(trx, host.id, body.run_id);
  const happenedAt = Math.min(Date.parse(body.happened_at), now.getTime());
  const place = {
    runId: body.run_id,
    sequence: body.sequence,
    happenedAt,
    cameAt: now.getTime(),
    isEnd: ENDS.includes(body.step),
    isAlone: body.step === "unchanged",
    isUnhealthy: body.health === "unhealthy",
  };
  const standing = reportStanding(viewOf(host), run ? viewRun(run) : null, place);
  if (standing === "known") return false;

  const system = await findWantedSystem(trx, reported, run);
  const next = runAfter({ deps, reported, run, system, happenedAt });
  if (next) {
    const failed = await holdFailure(trx, deps, { ...reported, run: next });
    await putRun(trx, { ...next, failed });
    await trimRuns(trx, host.id, RUNS_MAX);
  }
  await updateHost(trx, host.id, { last_contact_at: now, kept_until: reported.keptUntil });
  if (standing === "newest") await showReport(trx, reported, { system, happenedAt });
  return true;
}

function viewOf(host: HostRow): Parameters<typeof reportStanding>[0] {
  return {
    runId: host.run_id,
    sequence: host.sequence,
    seenAt: host.seen_at?.getTime() ?? null,
    runningPath: host.running_path,
    healthySince: host.healthy_since,
    runningSince: host.running_since,
  };
}

function viewRun({ sequence, steps, started_at }: DeploymentRow): RunView {
  const firstCameAt = started_at.getTime();
  const sequences = steps.map((step) => step.sequence);
  return { sequence, sequences, beganAt: steps[0]?.happened_at ?? firstCameAt, firstCameAt };
}

/** A run is of one system, whatever else comes to the same one meanwhile. */
async function findWantedSystem(
  trx: Transaction<Database>,
  { host, project, body, paths }: Reported,
  run: DeploymentRow | undefined,
): Promise<BuiltSystem | null> {
  const storePath = paths.wanted;
  if (storePath === null) return null;
  if (run?.system && run.store_path === storePath) return run.system;
  return await findReportedSystem(trx, { host, project, storePath }, body.build_id);
}

interface RunChange {
  readonly deps: ReportDeps;
  readonly reported: Reported;
  readonly run: DeploymentRow | undefined;
  readonly system: BuiltSystem | null;
  readonly happenedAt: number;
}

/** The run as it is with this step; null for one of which there is nothing to tell. */
function runAfter({ deps, reported, run, system, happenedAt }: RunChange): RunFields | null {
  const { host, body, paths, now } = reported;
  if (!run && body.step === "unchanged") return null;
  const step = DEPLOYMENT_STEPS.indexOf(body.step);
  const told = { sequence: body.sequence, step, happened_at: happenedAt };
  const steps = [...(run?.steps ?? []), told].sort((one, other) => one.sequence - other.sequence).slice(-STEPS_MAX);
  if (run && body.sequence < run.sequence) return { ...run, steps };
  return {
    id: run?.id ?? uuidV7(deps.clock.now(), deps.random),
    host_id: host.id,
    run_id: body.run_id,
    mode: DEPLOYMENT_MODES.indexOf(body.mode),
    step,
    sequence: body.sequence,
    health: HOST_HEALTH.indexOf(body.health),
    reason: body.reason,
    failed_units: [...body.failed_units],
    exit_code: body.exit_code,
    agent_version: body.agent_version,
    generation: body.generation,
    store_path: paths.wanted ?? run?.store_path ?? null,
    system: system ?? run?.system ?? null,
    steps,
    failed: run?.failed ?? false,
    ended_at: ENDS.includes(body.step) ? now : null,
  };
}

/** The host is as the report says. */
async function showReport(
  trx: Transaction<Database>,
  reported: Reported,
  { system: wanted, happenedAt }: Pick<RunChange, "system" | "happenedAt">,
): Promise<void> {
  const { host, project, body, paths, now } = reported;
  const before = viewOf(host);
  const running = paths.running ?? host.running_path;
  const moved = running !== host.running_path;
  // Its evaluation may have come to be known since.
  const findOther = async () => running && (await findReportedSystem(trx, { host, project, storePath: running }, null));
  const system = running === paths.wanted ? wanted : await findOther();
  await updateHost(trx, host.id, {
    run_id: body.run_id,
    sequence: body.sequence,
    seen_at: new Date(Math.max(happenedAt, 0)),
    agent_version: body.agent_version,
    running_path: running,
    booted_path: paths.booted ?? host.booted_path,
    generation: body.generation ?? host.generation,
    health: HOST_HEALTH.indexOf(body.health),
    health_reason: body.reason,
    failed_units: [...body.failed_units],
    healthy_since: healthySince(before, { runningPath: paths.running, health: body.health }, now),
    running_since: moved ? now : host.running_since,
    running_system: system && jsonbText(system),
  });
  await keepPaths(trx, reported, running);
  const proved = body.step === "succeeded" && body.mode !== "dry-activate";
  if (proved && paths.wanted !== null) await releaseHost(trx, { projectId: project.id, host: host.name }, paths.wanted);
}

async function keepPaths(
  trx: Transaction<Database>,
  { host, paths }: Pick<Reported, "host" | "paths">,
  running: string | null,
): Promise<void> {
  const rows = await listHostPaths(trx, [host.id]);
  const known = rows.filter(({ role }) => role === HOST_PATH_ROLE.rollback).map(({ store_path }) => store_path);
  const back = rollbackPaths(known, { before: host.running_path, now: running, max: ROLLBACKS_MAX });
  const one = (role: number, store_path: string | null) => (store_path === null ? [] : [{ role, store_path }]);
  await setHostPaths(trx, host.id, [
    ...one(HOST_PATH_ROLE.running, running),
    ...one(HOST_PATH_ROLE.booted, paths.booted ?? host.booted_path),
    ...one(HOST_PATH_ROLE.wanted, paths.wanted),
    ...back.map((store_path) => ({ role: HOST_PATH_ROLE.rollback, store_path })),
  ]);
}
