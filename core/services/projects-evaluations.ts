import type { EntryPointView, EvaluationSummary, ProjectDetails } from "../api/projects.ts";
import type { BuildStatusName } from "../api/status.ts";
import { naiveTime } from "../api/times.ts";
import { findEvaluationOwner, listEvaluationSummaries } from "../db/evaluations-read.ts";
import { countDependencies, type DependencyCount, listEntryPoints } from "../db/evaluations-read-entry-points.ts";
import { countProjectQueue } from "../db/projects.ts";
import { findLastEvaluation } from "../db/projects-evaluations.ts";
import type { Actor } from "../domain/actor.ts";
import { buildStatusName } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { formatAttributePath } from "../nix/attribute-path.ts";
import { requireProject } from "./access.ts";
import type { ProjectName } from "./projects.ts";
import type { ProjectDeps } from "./projects-deps.ts";
import { viewEvaluationSummary, viewProject } from "./projects-view.ts";

const SUMMARIES_MAX = 1_000;
const DETAILS_EVALUATIONS = 10;
export const ENTRY_POINTS_MAX = 10_000;
/** Members of all closures of one answer together: PostgreSQL walks them in under a second. */
const CLOSURE_MEMBERS_MAX = 200_000;

type ReadDeps = Pick<ProjectDeps, "db">;

/** The newest evaluations, newest first; without a limit as many as the project keeps. */
export async function listProjectEvaluations(
  deps: ReadDeps,
  actor: Actor,
  name: ProjectName,
  limit: number | undefined,
): Promise<EvaluationSummary[]> {
  const { project } = await requireProject(deps, actor, name, "read");
  const count = Math.min(limit ?? project.keep_evaluations, SUMMARIES_MAX);
  return (await listEvaluationSummaries(deps.db, project.id, count)).map(viewEvaluationSummary);
}

export async function describeProject(deps: ReadDeps, actor: Actor, name: ProjectName): Promise<ProjectDetails> {
  const access = await requireProject(deps, actor, name, "read");
  const view = viewProject(access, access.project, undefined);
  const evaluations = await listEvaluationSummaries(deps.db, view.id, DETAILS_EVALUATIONS);
  return {
    id: view.id,
    name: view.name,
    display_name: view.display_name,
    description: view.description,
    repository: view.repository,
    wildcard: view.wildcard,
    active: view.active,
    created_at: view.created_at,
    keep_evaluations: view.keep_evaluations,
    last_check_at: access.project.last_check_at && naiveTime(access.project.last_check_at),
    queue: await countProjectQueue(deps.db, view.id),
    last_evaluations: evaluations.map(viewEvaluationSummary),
    can_edit: view.can_edit,
    can_trigger: view.can_trigger,
    managed: view.managed,
  };
}

/** The entry points of one of the project's evaluations, the last one when none is named. */
export async function listProjectEntryPoints(
  deps: ReadDeps,
  actor: Actor,
  name: ProjectName,
  evaluationId: string | undefined,
): Promise<EntryPointView[]> {
  const { project } = await requireProject(deps, actor, name, "read");
  const id = evaluationId ?? (await findLastEvaluation(deps.db, project.id))?.id;
  if (id === undefined) return [];
  const evaluation = await findEvaluationOwner(deps.db, id);
  if (evaluation?.project_id !== project.id) throw new DomainError("not_found", "Evaluation not found");

  const rows = await listEntryPoints(deps.db, id, ENTRY_POINTS_MAX);
  const roots = [...new Set(rows.map((row) => row.build_id))];
  const counts = await countDependencies(deps.db, id, roots, CLOSURE_MEMBERS_MAX);
  const dependencies = counts && groupByRoot(counts);
  return rows.map((row) => ({
    id: row.id,
    build_id: row.link_id,
    derivation_path: row.drv_path,
    eval: formatAttributePath(row.attribute),
    build_status: buildStatusName(row.status),
    has_artefacts: row.has_products,
    architecture: row.system,
    build_time_ms: row.build_time_ms,
    ...(dependencies?.get(row.build_id) ?? noDependencies(dependencies !== null)),
    created_at: naiveTime(row.created_at),
  }));
}

interface Dependencies {
  readonly deps: Partial<Record<BuildStatusName, number>> | null;
  readonly deps_total: number | null;
}

function noDependencies(counted: boolean): Dependencies {
  return counted ? { deps: {}, deps_total: 0 } : { deps: null, deps_total: null };
}

function groupByRoot(counts: readonly DependencyCount[]): Map<string, Dependencies> {
  const groups = new Map<string, Dependencies>();
  for (const { root_id, status, count } of counts) {
    const before = groups.get(root_id);
    groups.set(root_id, {
      deps: { ...before?.deps, [buildStatusName(status)]: count },
      deps_total: (before?.deps_total ?? 0) + count,
    });
  }
  return groups;
}
