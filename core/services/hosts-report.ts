import type { Transaction } from "kysely";
import {
  DEPLOYMENT_MODES,
  DEPLOYMENT_STEPS,
  HOST_HEALTH,
  type HostReportAnswer,
  type HostReportBody,
} from "../api/hosts.ts";
import { readDatabaseTime } from "../db/builds-read.ts";
import { findRun, findSystemOfRuns, putRun, type RunFields, releaseHost, trimRuns } from "../db/deployments.ts";
import { findBuiltSystem, isHostNamed } from "../db/deployments-wanted.ts";
import { holdPresentPaths, listLendingCaches } from "../db/held-paths.ts";
import {
  countHosts,
  HOST_PATH_ROLE,
  insertHost,
  listHostPaths,
  lockHost,
  setHostPaths,
  updateHost,
} from "../db/hosts.ts";
import { jsonbText } from "../db/json-text.ts";
import type { Database } from "../db/schema.ts";
import { listSubscriptions } from "../db/subscriptions.ts";
import type { BuiltSystem, DeploymentRow, HostRow } from "../db/tables/deployment.ts";
import { inTransaction } from "../db/transaction.ts";
import type { Actor } from "../domain/actor.ts";
import { healthySince, rollbackPaths, standingOf } from "../domain/deployment-report.ts";
import type { RetentionSettings } from "../domain/retention.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { type StorePath, storePathBaseName } from "../nix/store-path.ts";
import { type ProjectAccess, requireProject } from "./access.ts";
import { findDeployBranch } from "./deployments-fleet.ts";
import { holdFailure } from "./deployments-holds.ts";
import { type HostAddress, requireHostName } from "./deployments-wanted.ts";
import type { ServiceDeps } from "./deps.ts";

export type HostReportDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "notifier"> & {
  readonly retention: RetentionSettings;
};

/** A fleet of one repository; more have none. */
export const HOSTS_MAX = 1_000;
/** At one a day, three months. */
export const RUNS_MAX = 100;
const STEPS_MAX = 64;
const ROLLBACKS_MAX = 2;

/**
 * Takes down what a host says of itself. The same report changes nothing when it comes again, and an older one never
 * takes the place of a newer. Throws `not_found` for a host that no evaluation of the deploy branch names, and
 * `conflict` when the project has too many.
 */
export async function reportDeployment(
  deps: HostReportDeps,
  actor: Actor,
  address: HostAddress,
  body: HostReportBody,
): Promise<HostReportAnswer> {
  const access = await requireProject(deps, actor, address, "reportDeployments");
  const { project, organization } = access;
  const name = requireHostName(address.host);
  const paths = baseNamesOf(body);
  const accepted = await inTransaction(
    deps.db,
    async (trx) => {
      await holdPaths(trx, organization.id, paths);
      const now = await readDatabaseTime(trx);
      const host = await lockOrAddHost(trx, deps, access, { name, now });
      return await applyReport(trx, deps, { host, project, body, paths, now });
    },
    deps,
  );
  if (accepted) deps.notifier.notify("deployment", project.id);
  return { accepted };
}

interface Paths {
  readonly wanted: string | null;
  readonly running: string | null;
  readonly booted: string | null;
}

function baseNamesOf({ store_path, running_path, booted_path }: HostReportBody): Paths {
  const baseName = (path: string | null) => path && storePathBaseName(path as StorePath);
  return { wanted: baseName(store_path), running: baseName(running_path), booted: baseName(booted_path) };
}

/** What the host names is a root from now on: no sweep takes it at this moment. */
async function holdPaths(trx: Transaction<Database>, organizationId: string, paths: Paths): Promise<void> {
  const own = (await listSubscriptions(trx, organizationId)).map(({ id }) => id);
  const cacheIds = await listLendingCaches(trx, own);
  const hashes = Object.values(paths).flatMap((path: string | null) => (path === null ? [] : path.slice(0, 32)));
  await holdPresentPaths(trx, { cacheIds, hashes });
}

async function lockOrAddHost(
  trx: Transaction<Database>,
  deps: HostReportDeps,
  { project }: ProjectAccess,
  { name, now }: { readonly name: string; readonly now: Date },
): Promise<HostRow> {
  const known = await lockHost(trx, project.id, name);
  if (known) return known;
  const branch = await findDeployBranch({ db: trx }, project);
  if (branch === null || !(await isHostNamed(trx, { projectId: project.id, branch, host: name }))) {
    throw new DomainError("not_found", "Host not found: no evaluation of the deploy branch has a host of this name");
  }
  if ((await countHosts(trx, project.id)) >= HOSTS_MAX) {
    throw new DomainError("conflict", `A project has at most ${HOSTS_MAX} hosts: forget one first`);
  }
  const id = uuidV7(deps.clock.now(), deps.random);
  await insertHost(trx, { id, project_id: project.id, name, kept_until: keptUntil(deps, now) });
  const added = await lockHost(trx, project.id, name);
  if (!added) throw new DomainError("conflict", "The host was forgotten at this moment: send the report again");
  return added;
}

function keptUntil({ retention }: HostReportDeps, now: Date): Date {
  return new Date(now.getTime() + retention.silentHostMs);
}

interface Reported {
  readonly host: HostRow;
  readonly project: ProjectAccess["project"];
  readonly body: HostReportBody;
  readonly paths: Paths;
  readonly now: Date;
}

async function applyReport(trx: Transaction<Database>, deps: HostReportDeps, reported: Reported): Promise<boolean> {
  const { host, body, now } = reported;
  const run = await findRun(trx, host.id, body.run_id);
  const happenedAt = Math.min(Date.parse(body.happened_at), now.getTime());
  const place = { runId: body.run_id, sequence: body.sequence, happenedAt };
  const sequences = run?.steps.map(({ sequence }) => sequence) ?? [];
  const standing = standingOf(viewOf(host), run ? { sequence: run.sequence, sequences } : null, place);
  if (standing === "known") return false;

  const system = await findSystem(trx, reported, reported.paths.wanted);
  const next = runAfter({ deps, reported, run, system, happenedAt });
  if (next) {
    const failed = await holdFailure(trx, deps, { ...reported, run: next });
    await putRun(trx, { ...next, failed });
    await trimRuns(trx, host.id, RUNS_MAX);
  }
  await updateHost(trx, host.id, { last_contact_at: now, kept_until: keptUntil(deps, now) });
  if (standing === "newest") await showReport(trx, reported, happenedAt);
  return true;
}

function viewOf(host: HostRow): Parameters<typeof standingOf>[0] {
  return {
    runId: host.run_id,
    sequence: host.sequence,
    seenAt: host.seen_at?.getTime() ?? null,
    runningPath: host.running_path,
    healthySince: host.healthy_since,
    runningSince: host.running_since,
  };
}

/** Where a system was built: of an evaluation, or as the host's own runs remember it. */
async function findSystem(
  trx: Transaction<Database>,
  { host, project }: Pick<Reported, "host" | "project">,
  storePath: string | null,
): Promise<BuiltSystem | null> {
  if (storePath === null) return null;
  const built = await findBuiltSystem(trx, { projectId: project.id, host: host.name, storePath });
  return built ?? (await findSystemOfRuns(trx, host.id, storePath));
}

interface RunChange {
  readonly deps: HostReportDeps;
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
    ended_at: ["succeeded", "failed", "rolled_back", "unchanged"].includes(body.step) ? now : null,
  };
}

/** The host is as the report says. */
async function showReport(trx: Transaction<Database>, reported: Reported, happenedAt: number): Promise<void> {
  const { host, body, paths, now } = reported;
  const before = viewOf(host);
  const running = paths.running ?? host.running_path;
  const moved = running !== host.running_path;
  // Its evaluation may have come to be known since.
  const system = await findSystem(trx, reported, running);
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
  if (proved && paths.wanted !== null) await releaseHost(trx, host.id, paths.wanted);
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
