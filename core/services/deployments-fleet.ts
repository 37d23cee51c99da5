import type { WantedBuild } from "../api/hosts.ts";
import { zonedTime } from "../api/times.ts";
import { readDatabaseTime } from "../db/builds-read.ts";
import { type HoldRow, listHolds } from "../db/deployments.ts";
import { type AskedRow, listAskedSystems } from "../db/deployments-asked.ts";
import { type BranchOfProject, listWantedSystems, type WantedRow } from "../db/deployments-wanted.ts";
import { listHostStates } from "../db/hosts.ts";
import type { ProjectRow } from "../db/schema.ts";
import { listTriggers, listTriggersOf } from "../db/triggers.ts";
import { type Decision, deployBranchOf } from "../domain/deployment.ts";
import type { AskedSystems, Fleet } from "../domain/deployment-fleet.ts";
import type { WaveProblem } from "../domain/deployment-waves.ts";
import { type BuildStatus, OPEN_BUILD, SUCCESSFUL_BUILD } from "../domain/states.ts";
import { formatAttributePath } from "../nix/attribute-path.ts";
import { STORE_DIR } from "../nix/store-path.ts";
import type { ServiceDeps } from "./deps.ts";
import { configOf } from "./triggers-rules.ts";
import { TRIGGERS_MAX } from "./triggers-schedule.ts";

/** A host keeps at most 50, a project 200. */
const HOLDS_MAX = 60_000;

type ReadDeps = Pick<ServiceDeps, "db">;
export type DeployingProject = Pick<
  ProjectRow,
  "id" | "deploy_branch" | "default_branch" | "deploy_hold" | "deploy_wave_percent" | "deploy_soak_seconds"
>;

/** Everything by which is decided what hosts get, as it is at one moment. */
export interface LoadedFleet {
  readonly fleet: Fleet;
  /** By the names of hosts. */
  readonly rows: ReadonlyMap<string, WantedRow>;
  /** The database's clock, in milliseconds. */
  readonly nowMs: number;
}

/** The branch that hosts of the project follow. */
export async function findDeployBranch(
  { db }: ReadDeps,
  project: Pick<DeployingProject, "id" | "deploy_branch" | "default_branch">,
): Promise<string | null> {
  if (project.deploy_branch !== null) return project.deploy_branch;
  const triggers = await listTriggers(db, project.id, TRIGGERS_MAX);
  return deployBranchOf(
    project,
    triggers.map((row) => ({ config: configOf(row), active: row.active })),
  );
}

/** The same for many projects. */
export async function listDeployBranches(
  { db }: ReadDeps,
  projects: readonly Pick<DeployingProject, "id" | "deploy_branch" | "default_branch">[],
): Promise<BranchOfProject[]> {
  const rows = await listTriggersOf(
    db,
    projects.map(({ id }) => id),
  );
  const triggers = Map.groupBy(rows, ({ project_id }) => project_id);
  return projects.map((project) => {
    const own = (triggers.get(project.id) ?? []).map((row) => ({ config: configOf(row), active: row.active }));
    return { id: project.id, branch: deployBranchOf(project, own) };
  });
}

/** For decisions about these hosts, which may be ones that never told of themselves. */
export async function loadFleet(
  deps: ReadDeps,
  project: DeployingProject,
  names: readonly string[],
): Promise<LoadedFleet> {
  const { db } = deps;
  const branch = await findDeployBranch(deps, project);
  const hosts = await listHostStates(db, project.id);
  // Where all may begin at once, nobody has to know of the others.
  const inWaves = project.deploy_wave_percent < 100;
  const needed = inWaves ? [...new Set([...names, ...hosts.map(({ name }) => name)])] : names;
  const holds = await listHolds(db, project.id, { hosts: needed, limit: HOLDS_MAX });
  const rows = branch === null ? [] : await listWantedSystems(db, { projectId: project.id, branch, hosts: needed });
  const decided = new Set(names);
  const evaluationIds = new Set(rows.flatMap((row) => (inWaves && decided.has(row.host) ? row.evaluation_id : [])));
  const asked = await listAskedSystems(db, { evaluationIds: [...evaluationIds], hosts: needed });
  const byHost = new Map(rows.map((row) => [row.host, row]));
  // What failed on a host before, and is not what it is to get, decides nothing.
  const mayKeep = ({ host_name: host, store_path }: HoldRow) =>
    host === null || byHost.get(host)?.store_path === store_path;
  return {
    nowMs: (await readDatabaseTime(db)).getTime(),
    rows: byHost,
    fleet: {
      branch,
      wanted: new Map(rows.map((row) => [row.host, wantedOf(row)])),
      evaluations: evaluationsOf(asked),
      hosts: hosts.map((host) => ({
        name: host.name,
        runningPath: host.running_path,
        healthySince: host.healthy_since?.getTime() ?? null,
        lastContactAt: host.last_contact_at.getTime(),
      })),
      holds: holds.filter(mayKeep).map((hold) => ({
        host: hold.host_name,
        storePath: hold.store_path,
        commit: hold.commit_hash,
        failedHost: hold.failed_host,
      })),
      settings: {
        hold: project.deploy_hold,
        wavePercent: project.deploy_wave_percent,
        soakSeconds: project.deploy_soak_seconds,
      },
    },
  };
}

function wantedOf({ store_path: storePath, available, ordinal: order, commit_hash: commit, finished_at }: WantedRow) {
  return { storePath, available, order, commit, builtAt: finished_at.getTime() };
}

function evaluationsOf(evaluations: readonly AskedRow[]): Map<number, AskedSystems> {
  return new Map(
    evaluations.map(({ ordinal, is_whole: isWhole, known_at, builds }) => {
      const states = builds.map(({ host, status }) => [host, buildStateOf(status)] as const);
      return [ordinal, { isWhole, knownAt: known_at.getTime(), builds: new Map(states) }];
    }),
  );
}

function buildStateOf(status: BuildStatus): "built" | "open" | "failed" {
  if (SUCCESSFUL_BUILD.includes(status)) return "built";
  return OPEN_BUILD.includes(status) ? "open" : "failed";
}

/** Null where the decision is that there is none. */
export function viewWanted(
  { rows }: LoadedFleet,
  host: string,
  { state }: Decision,
  narSize: number | null,
): WantedBuild | null {
  const row = rows.get(host);
  if (!row || state === "none") return null;
  return {
    evaluation_id: row.evaluation_id,
    build_id: row.link_id,
    order: row.ordinal,
    attribute: formatAttributePath(row.attribute),
    store_path: `${STORE_DIR}/${row.store_path}`,
    commit: row.commit_hash,
    commit_message: row.commit_message.split("\n", 1)[0] ?? "",
    branch: row.branch,
    finished_at: zonedTime(row.finished_at),
    nar_size: narSize,
  };
}

const BRANCH_ADVICE =
  "The deploy branch is not known: the next evaluation of the repository tells it, or set `deploy_branch`";

/** Why a host gets nothing, in one sentence. `namesHosts`: whether the reader may know of other hosts. */
export function describeDecision(
  { fleet }: LoadedFleet,
  host: string,
  { why }: Decision,
  { namesHosts }: { readonly namesHosts: boolean },
): string | null {
  if (why === null) return null;
  const other = "host" in why && namesHosts ? why.host : "another host";
  switch (why.kind) {
    case "no_branch":
      return BRANCH_ADVICE;
    case "not_built":
      return `No evaluation of the branch ${fleet.branch} has built nixosConfigurations.${formatAttributePath([host])}`;
    case "not_available":
      return "The system was built, and has vanished from the caches: it is built again";
    case "failed_here":
      return "This system failed on this host before: push another commit, or release the host";
    case "held":
      return "Somebody holds this commit: release it, or push another one";
    case "failed_elsewhere":
      return `This commit failed on ${other}: push another one, or release it`;
    case "evaluating":
      return "Its wave is not known yet: the evaluation still finds out which hosts there are";
    case "wave":
      return `Its wave has not come: ${other} ${WAVE_PROBLEMS[why.problem]}`;
  }
}

const WAVE_PROBLEMS = {
  not_there: "does not run what it is to run yet",
  not_healthy: "is not healthy on it",
  soaking: "has not been healthy on it for long enough",
  silent: "was not heard of after the time for which it has to stay healthy",
} as const satisfies Record<WaveProblem, string>;
