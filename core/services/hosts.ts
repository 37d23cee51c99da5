import {
  DEPLOYMENT_MODES,
  DEPLOYMENT_STEPS,
  type DeploymentView,
  HOST_HEALTH,
  type HostView,
  type PresentSystem,
} from "../api/hosts.ts";
import { type Page, type PageQuery, pageWindow } from "../api/pages.ts";
import { zonedTime } from "../api/times.ts";
import { countRuns, type HoldRow, listHolds, listLastRuns, listRuns } from "../db/deployments.ts";
import { isHostNamed, listFleetHosts } from "../db/deployments-wanted.ts";
import { HOST_PATH_ROLE, type HostPath, listHostPaths, listHosts } from "../db/hosts.ts";
import { listProjectsOfOrganization } from "../db/projects.ts";
import type { ProjectRow } from "../db/schema.ts";
import type { BuiltSystem, DeploymentRow, HostRow } from "../db/tables/deployment.ts";
import type { Actor } from "../domain/actor.ts";
import { decideFor } from "../domain/deployment.ts";
import { DomainError } from "../errors.ts";
import { assert } from "../lib/assert.ts";
import { STORE_DIR } from "../nix/store-path.ts";
import { requireOrganization, requireProject } from "./access.ts";
import {
  describeDecision,
  findDeployBranch,
  type LoadedFleet,
  listDeployBranches,
  loadFleet,
  viewWanted,
} from "./deployments-fleet.ts";
import { type HostAddress, requireHostName } from "./deployments-wanted.ts";
import type { ServiceDeps } from "./deps.ts";
import type { ProjectName } from "./projects.ts";

type ReadDeps = Pick<ServiceDeps, "db">;

/** Of one organization; more have no hosts. */
const PROJECTS_MAX = 1_000;
/** Of the hosts of one page: each keeps at most 50. */
const HOLDS_MAX = 10_000;

/** Hosts of all projects of the organization: those that told of themselves, and those that the flakes name. */
export async function listOrganizationHosts(
  deps: ReadDeps,
  actor: Actor,
  name: string,
  query: PageQuery,
): Promise<Page<HostView>> {
  const { organization } = await requireOrganization(deps, actor, name, "member");
  const projects = await listProjectsOfOrganization(deps.db, organization.id, PROJECTS_MAX);
  return await pageOf(deps, organization.name, projects, query);
}

export async function listProjectHosts(
  deps: ReadDeps,
  actor: Actor,
  name: ProjectName,
  query: PageQuery,
): Promise<Page<HostView>> {
  const { organization, project } = await requireProject(deps, actor, name, "member");
  return await pageOf(deps, organization.name, [project], query);
}

async function pageOf(
  deps: ReadDeps,
  organization: string,
  projects: readonly ProjectRow[],
  query: PageQuery,
): Promise<Page<HostView>> {
  const branches = await listDeployBranches(deps, projects);
  const { hosts, total } = await listFleetHosts(deps.db, branches, pageWindow(query));
  const views = new Map<string, HostView>();
  for (const [projectId, own] of Map.groupBy(hosts, ({ project_id }) => project_id)) {
    const project = projects.find(({ id }) => id === projectId);
    assert(project !== undefined, "hosts are of the projects that were asked for");
    const names = own.map((host) => host.name);
    for (const view of await viewHosts(deps, organization, project, names))
      views.set(`${projectId} ${view.host}`, view);
  }
  const items = hosts.flatMap(({ project_id, name }) => views.get(`${project_id} ${name}`) ?? []);
  return { items, total, ...query };
}

export async function getHost(deps: ReadDeps, actor: Actor, address: HostAddress): Promise<HostView> {
  const { organization, project } = await requireProject(deps, actor, address, "member");
  const name = requireHostName(address.host);
  const [view] = await viewHosts(deps, organization.name, project, [name]);
  if (view?.known || (view && (await isNamed(deps, project, name)))) return view;
  throw new DomainError("not_found", "Host not found");
}

async function isNamed(deps: ReadDeps, project: ProjectRow, host: string): Promise<boolean> {
  const branch = await findDeployBranch(deps, project);
  return branch !== null && (await isHostNamed(deps.db, { projectId: project.id, branch, host }));
}

/** Its runs, the newest first. */
export async function listHostHistory(
  deps: ReadDeps,
  actor: Actor,
  address: HostAddress,
  query: PageQuery,
): Promise<Page<DeploymentView>> {
  const { project } = await requireProject(deps, actor, address, "member");
  const name = requireHostName(address.host);
  const [host] = await listHosts(deps.db, project.id, [name]);
  if (!host) {
    if (await isNamed(deps, project, name)) return { items: [], total: 0, ...query };
    throw new DomainError("not_found", "Host not found");
  }
  const rows = await listRuns(deps.db, host.id, pageWindow(query));
  return { items: rows.map(viewRun), total: await countRuns(deps.db, host.id), ...query };
}

async function viewHosts(
  deps: ReadDeps,
  organization: string,
  project: ProjectRow,
  names: readonly string[],
): Promise<HostView[]> {
  const loaded = await loadFleet(deps, project, names);
  const rows = await listHosts(deps.db, project.id, names);
  const ids = rows.map(({ id }) => id);
  const paths = Map.groupBy(await listHostPaths(deps.db, ids), ({ host_id }) => host_id);
  const runs = new Map((await listLastRuns(deps.db, ids)).map((run) => [run.host_id, run]));
  const holds = await listHolds(deps.db, project.id, { hosts: names, limit: HOLDS_MAX });
  const byName = new Map(rows.map((row) => [row.name, row]));
  return names.map((name) => {
    const row = byName.get(name);
    return {
      ...viewDecision(loaded, name, row),
      project: `${organization}/${project.name}`,
      ...viewRow(row),
      rollback_paths: row ? rollbacksOf(paths.get(row.id) ?? []) : [],
      failed_paths: holds.filter((hold) => hold.host_name === name).flatMap(viewFailedPath),
      last_run: row ? viewLastRun(runs.get(row.id)) : null,
    };
  });
}

function viewDecision(loaded: LoadedFleet, host: string, row: HostRow | undefined) {
  const decision = decideFor(loaded.fleet, host, loaded.nowMs);
  const wanted = loaded.rows.get(host)?.store_path;
  const running = row?.running_path ?? null;
  return {
    host,
    branch: loaded.fleet.branch,
    state: decision.state,
    reason: describeDecision(loaded, host, decision, { namesHosts: true }),
    wanted: viewWanted(loaded, host, decision, null),
    up_to_date: running === null || wanted === undefined ? null : running === wanted,
  };
}

type RowFields =
  | "known"
  | "present"
  | "booted_path"
  | "generation"
  | "health"
  | "health_reason"
  | "failed_units"
  | "agent_version"
  | "first_seen_at"
  | "last_contact_at"
  | "kept_until";

function viewRow(row: HostRow | undefined): Pick<HostView, RowFields> {
  return {
    known: row !== undefined,
    present: row ? viewPresent(row) : null,
    booted_path: row ? fullPath(row.booted_path) : null,
    generation: row?.generation ?? null,
    health: HOST_HEALTH[row?.health ?? 0] ?? "unknown",
    health_reason: row?.health_reason ?? null,
    failed_units: row?.failed_units ?? [],
    agent_version: row?.agent_version ?? null,
    first_seen_at: row ? zonedTime(row.first_seen_at) : null,
    last_contact_at: row ? zonedTime(row.last_contact_at) : null,
    kept_until: row ? zonedTime(row.kept_until) : null,
  };
}

function viewPresent({ running_path, running_since, running_system }: HostRow): PresentSystem | null {
  if (running_path === null) return null;
  const since = running_since && zonedTime(running_since);
  return { store_path: `${STORE_DIR}/${running_path}`, since, ...viewSystem(running_system) };
}

function viewSystem(system: BuiltSystem | null) {
  return {
    build_id: system?.build_id ?? null,
    evaluation_id: system?.evaluation_id ?? null,
    order: system?.order ?? null,
    commit: system?.commit ?? null,
    commit_message: system?.commit_message ?? null,
    branch: system?.branch ?? null,
  };
}

function rollbacksOf(paths: readonly HostPath[]): string[] {
  return paths.flatMap(({ role, store_path }) =>
    role === HOST_PATH_ROLE.rollback ? `${STORE_DIR}/${store_path}` : [],
  );
}

function viewFailedPath({ store_path, reason, created_at }: HoldRow): HostView["failed_paths"] {
  if (store_path === null) return [];
  return [{ store_path: `${STORE_DIR}/${store_path}`, reason, since: zonedTime(created_at) }];
}

function viewLastRun(run: DeploymentRow | undefined): DeploymentView | null {
  return run ? viewRun(run) : null;
}

function viewRun(run: DeploymentRow): DeploymentView {
  return {
    id: run.run_id,
    mode: DEPLOYMENT_MODES[run.mode] ?? "switch",
    step: DEPLOYMENT_STEPS[run.step] ?? "started",
    health: HOST_HEALTH[run.health] ?? "unknown",
    reason: run.reason,
    failed_units: run.failed_units,
    exit_code: run.exit_code,
    agent_version: run.agent_version,
    generation: run.generation,
    store_path: fullPath(run.store_path),
    ...viewSystem(run.system),
    started_at: zonedTime(run.started_at),
    updated_at: zonedTime(run.updated_at),
    ended_at: run.ended_at && zonedTime(run.ended_at),
    steps: run.steps.map(({ sequence, step, happened_at }) => ({
      sequence,
      step: DEPLOYMENT_STEPS[step] ?? "started",
      happened_at: zonedTime(new Date(happened_at)),
    })),
  };
}

function fullPath(baseName: string | null): string | null {
  return baseName === null ? null : `${STORE_DIR}/${baseName}`;
}
