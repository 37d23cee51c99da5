import type { BuildAction } from "../api/actions.ts";
import type { BuildDependency, BuildMetrics, BuildView } from "../api/builds.ts";
import { naiveTime } from "../api/times.ts";
import { findBuildStanding } from "../db/build-waiting.ts";
import {
  type AttemptOfLink,
  type BuildLink,
  findAttemptOfLink,
  findBuildLink,
  listBuildOutputs,
  listDependencyLinks,
} from "../db/builds-read.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { buildStatusName, OPEN_BUILD } from "../domain/states.ts";
import { type OrganizationNeed, requireOrganizationOf } from "./access.ts";
import { explainFailure } from "./build-failure.ts";
import { explainBuild } from "./builds-waiting.ts";
import type { ServiceDeps } from "./deps.ts";
import { estimateBuild } from "./estimates.ts";
import type { EvaluationControl } from "./evaluations-control.ts";

const DEPENDENCIES_MAX = 10_000;
/** Nobody needs to know how many more there are. */
const AHEAD_MAX = 10_000;

type ReadDeps = Pick<ServiceDeps, "db">;

/** A build that the actor may not see is reported exactly like one that does not exist. */
export async function requireBuild(deps: ReadDeps, actor: Actor, id: string): Promise<BuildLink> {
  return (await requireBuildAccess(deps, actor, id)).link;
}

export async function getBuild(deps: ReadDeps, actor: Actor, id: string): Promise<BuildView> {
  const { link, member } = await requireBuildAccess(deps, actor, id);
  const outputs = await listBuildOutputs(deps.db, link.build_id);
  const attempt = await findAttemptOfLink(deps.db, id);
  const isOpen = (OPEN_BUILD as readonly number[]).includes(link.status);
  const standing = await findBuildStanding(deps.db, link.build_id, AHEAD_MAX);
  const waiting = isOpen && standing ? await explainBuild(deps, standing) : null;
  return {
    id: link.id,
    evaluation: link.evaluation_id,
    status: buildStatusName(link.status),
    derivation_path: link.drv_path,
    architecture: link.system,
    // Who knows a worker's id may ask which organizations registered it.
    worker: member ? (attempt?.worker_id ?? null) : null,
    output: Object.fromEntries(
      outputs.flatMap(({ name, store_path }) => (store_path === null ? [] : [[name, store_path]])),
    ),
    job: attempt?.id ?? null,
    error: await explainFailure(deps, link, attempt),
    metrics: attempt ? metricsOf(attempt) : null,
    priority: standing?.priority ?? 0,
    ...(waiting && { waiting_reason: waiting }),
    eta: isOpen ? await estimateBuild(deps, { id: link.build_id, organizationId: link.organization_id }) : null,
    created_at: naiveTime(link.created_at),
    updated_at: naiveTime(link.updated_at),
  };
}

/** What people do about one build. Answers what came of it, and the evaluation that waits for it now. */
export async function actOnBuild(
  deps: ReadDeps & { readonly control: EvaluationControl },
  actor: Actor,
  id: string,
  action: BuildAction,
): Promise<{ readonly message: string; readonly evaluationId: string }> {
  const { link } = await requireBuildAccess(deps, actor, id, "triggerEvaluation");
  const { evaluation_id: evaluationId } = link;
  if (action.method === "bump") {
    await deps.control.prioritizeBuild(id, action.priority);
    return { message: `The build, and what it waits for, has the priority ${action.priority}`, evaluationId };
  }
  if (action.method === "abort") {
    const abort = await deps.control.abortBuild(id);
    const goesOn = "Another evaluation waits for the build, and it goes on; in this one it counts as aborted";
    return { message: abort === "taken_out" ? goesOn : "The build is aborted", evaluationId };
  }
  const restarted = await deps.control.restartBuild(id, requireUser(actor).id);
  return { message: `The build runs again in evaluation ${restarted}`, evaluationId: restarted };
}

/** What it needs directly, by name. */
export async function listDependencies(deps: ReadDeps, actor: Actor, id: string): Promise<BuildDependency[]> {
  const link = await requireBuild(deps, actor, id);
  const rows = await listDependencyLinks(deps.db, link, DEPENDENCIES_MAX);
  return rows.map((row) => ({
    id: row.id,
    name: row.name,
    path: row.drv_path,
    status: buildStatusName(row.status),
    created_at: naiveTime(row.created_at),
    updated_at: naiveTime(row.updated_at),
  }));
}

function metricsOf(attempt: AttemptOfLink): BuildMetrics | null {
  const { build_ms, cpu_user_ms, cpu_system_ms, peak_memory_bytes, io_read_bytes, io_write_bytes } = attempt;
  const metrics = { build_ms, cpu_user_ms, cpu_system_ms, peak_memory_bytes, io_read_bytes, io_write_bytes };
  return Object.values(metrics).some((value) => value !== null) ? metrics : null;
}

async function requireBuildAccess(
  deps: ReadDeps,
  actor: Actor,
  id: string,
  need: OrganizationNeed = "read",
): Promise<{ readonly link: BuildLink; readonly member: boolean }> {
  const link = await findBuildLink(deps.db, id);
  const { member } = await requireOrganizationOf(deps, actor, link?.organization_id, need, "Build");
  return { link: link as BuildLink, member };
}
