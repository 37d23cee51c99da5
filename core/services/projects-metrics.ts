import type { EntryPointMetrics, EvaluationPoint, ProjectMetrics } from "../api/projects-metrics.ts";
import { naiveTime } from "../api/times.ts";
import { type ClosureRoot, sumBuildClosures, sumRuntimeClosures } from "../db/closure-sizes.ts";
import { findClosureStores } from "../db/closure-stores.ts";
import { listBuildsOfEntryPoint, listEntryPointBuilds, listMeasuredEvaluations } from "../db/projects-metrics.ts";
import type { Actor } from "../domain/actor.ts";
import { buildStatusName } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { AttributePathError, formatAttributePath, parseAttributePath } from "../nix/attribute-path.ts";
import { requireProject } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";
import type { ProjectName } from "./projects.ts";
import { asWalk } from "./walks.ts";

/** Of a diagram. */
const POINTS_MAX = 50;
/** Members of all closures of one answer together: PostgreSQL walks them in about a second. */
const MEMBERS_MAX = 200_000;

type ReadDeps = Pick<ServiceDeps, "db">;

/** What the project's newest completed evaluations took, the oldest first; at most as many as it keeps. */
export async function measureProject(deps: ReadDeps, actor: Actor, name: ProjectName): Promise<ProjectMetrics> {
  const { project } = await requireProject(deps, actor, name, "read");
  const { keep_evaluations } = project;
  const evaluations = await listMeasuredEvaluations(deps.db, project.id, Math.min(keep_evaluations, POINTS_MAX));
  const roots = await listEntryPointBuilds(
    deps.db,
    evaluations.map(({ id }) => id),
  );
  const sizeOf = await closureSizes(deps, actor, { organizationId: project.organization_id, roots });
  const points = evaluations.map(({ id, created_at, ...times }) => ({
    evaluation_id: id,
    created_at: naiveTime(created_at),
    ...times,
    ...sizeOf(id),
  }));
  return { keep_evaluations, points: points.toReversed() };
}

/** What became of one entry point in the project's newest evaluations that have it, the oldest first. */
export async function measureEntryPoint(
  deps: ReadDeps,
  actor: Actor,
  name: ProjectName,
  attribute: string,
): Promise<EntryPointMetrics> {
  const { project } = await requireProject(deps, actor, name, "read");
  const path = requireAttribute(attribute);
  const limit = Math.min(project.keep_evaluations, POINTS_MAX);
  const builds = await listBuildsOfEntryPoint(deps.db, project.id, { attribute: path, limit });
  const roots = builds.map(({ link_id, build_id }) => ({ key: link_id, build_id }));
  const sizeOf = await closureSizes(deps, actor, { organizationId: project.organization_id, roots });
  const points = builds.map((build) => ({
    evaluation_id: build.evaluation_id,
    build_id: build.link_id,
    created_at: naiveTime(build.created_at),
    build_status: buildStatusName(build.status),
    build_time_ms: build.build_time_ms,
    ...sizeOf(build.link_id),
  }));
  const { keep_evaluations } = project;
  return { eval: formatAttributePath(path), keep_evaluations, points: points.toReversed() };
}

/** The attribute path that the text writes. Throws `validation`. */
export function requireAttribute(text: string): string[] {
  try {
    return parseAttributePath(text);
  } catch (error) {
    if (error instanceof AttributePathError) throw new DomainError("validation", `eval: ${error.message}`);
    throw error;
  }
}

type Sizes = Pick<
  EvaluationPoint,
  "output_size_bytes" | "closure_size_bytes" | "runtime_closure_size_bytes" | "dependencies_count"
>;

async function closureSizes(
  deps: ReadDeps,
  actor: Actor,
  { organizationId, roots }: { readonly organizationId: string; readonly roots: readonly ClosureRoot[] },
): Promise<(key: string) => Sizes> {
  const bound = { roots, membersMax: MEMBERS_MAX };
  const stores = await findClosureStores(deps.db, organizationId);
  const built = await asWalk(actor, () => sumBuildClosures(deps.db, stores, bound));
  const used = await asWalk(actor, () => sumRuntimeClosures(deps.db, stores, bound));
  const builtOf = new Map(built?.map((closure) => [closure.key, closure]));
  const usedOf = new Map(used?.map((closure) => [closure.key, closure]));
  return (key) => ({
    output_size_bytes: usedOf.get(key)?.output_bytes ?? null,
    closure_size_bytes: builtOf.get(key)?.bytes ?? null,
    runtime_closure_size_bytes: usedOf.get(key)?.bytes ?? null,
    dependencies_count: built ? (builtOf.get(key)?.dependencies ?? 0) : null,
  });
}
