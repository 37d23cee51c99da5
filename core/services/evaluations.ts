import type { EvaluationAction } from "../api/actions.ts";
import type { BuildsQuery, EvaluationBuilds, EvaluationMessage, EvaluationView } from "../api/evaluations.ts";
import { BUILDS_LIST_MAX } from "../api/evaluations.ts";
import { naiveTime } from "../api/times.ts";
import { findBuildLink } from "../db/builds-read.ts";
import {
  type EvaluationOwner,
  findEvaluationDetail,
  findEvaluationOwner,
  listEvaluationMessages,
} from "../db/evaluations-read.ts";
import { countEvaluationBuilds, listEvaluationBuilds } from "../db/evaluations-read-builds.ts";
import { listEntryPoints } from "../db/evaluations-read-entry-points.ts";
import type { Actor } from "../domain/actor.ts";
import { ACTIVE_EVALUATION, buildStatusName, evaluationStatusName, MessageLevel } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { formatAttributePath } from "../nix/attribute-path.ts";
import { redactUrl } from "../nix/flake-ref.ts";
import { type OrganizationNeed, requireOrganizationOf } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";
import { estimateEvaluation } from "./estimates.ts";
import type { EvaluationControl } from "./evaluations-control.ts";
import { ENTRY_POINTS_MAX } from "./projects-evaluations.ts";
import { viewEvaluationTrigger } from "./triggers-view.ts";

/** An evaluation has one message for each attribute that failed; the first of them say enough. */
const MESSAGES_MAX = 2_000;

type ReadDeps = Pick<ServiceDeps, "db">;

/** An evaluation that the actor may not see is reported exactly like one that does not exist. */
export async function requireEvaluation(
  deps: ReadDeps,
  actor: Actor,
  id: string,
  need: OrganizationNeed,
): Promise<EvaluationOwner> {
  const owner = await findEvaluationOwner(deps.db, id);
  await requireOrganizationOf(deps, actor, owner?.organization_id, need, "Evaluation");
  return owner as EvaluationOwner;
}

export async function getEvaluation(deps: ReadDeps, actor: Actor, id: string): Promise<EvaluationView> {
  await requireEvaluation(deps, actor, id, "read");
  const row = await findEvaluationDetail(deps.db, id);
  if (!row) throw new DomainError("not_found", "Evaluation not found");
  const entryPoints = await listEntryPoints(deps.db, id, ENTRY_POINTS_MAX);
  const isActive = (ACTIVE_EVALUATION as readonly number[]).includes(row.status);
  return {
    id: row.id,
    project: row.project_id,
    project_name: row.project_name,
    project_display_name: row.project_display_name,
    repository: redactUrl(row.repository),
    commit: row.commit_hash,
    wildcard: row.wildcard,
    status: evaluationStatusName(row.status),
    previous: row.previous,
    next: row.next,
    created_at: naiveTime(row.created_at),
    updated_at: naiveTime(row.updated_at),
    error_count: row.error_count,
    warning_count: row.warning_count,
    error: row.failure,
    entry_points: entryPoints.map((entry) => ({
      id: entry.id,
      eval: formatAttributePath(entry.attribute),
      build_status: buildStatusName(entry.status),
    })),
    trigger: viewEvaluationTrigger(row),
    triggered_by: row.triggered_by,
    branch: row.branch,
    ...(row.waiting_reason && { waiting_reason: row.waiting_reason }),
    priority: row.priority,
    eta: isActive ? await estimateEvaluation(deps, { id, organizationId: row.organization_id }) : null,
  };
}

/** What people do about an evaluation. Throws `conflict` when it has ended already. */
export async function actOnEvaluation(
  { control, ...deps }: ReadDeps & { readonly control: EvaluationControl },
  actor: Actor,
  id: string,
  action: EvaluationAction,
): Promise<void> {
  await requireEvaluation(deps, actor, id, "triggerEvaluation");
  if (action.method === "abort") return await control.abort(id);
  if (action.method === "approve") return await control.approve(id);
  await control.prioritize(id, action.priority);
}

export async function listBuildsOf(
  deps: ReadDeps,
  actor: Actor,
  id: string,
  { limit = BUILDS_LIST_MAX, offset = 0, scope }: BuildsQuery,
): Promise<EvaluationBuilds> {
  await requireEvaluation(deps, actor, id, "read");
  const root = scope === undefined ? undefined : await findBuildLink(deps.db, scope);
  if (scope !== undefined && root?.evaluation_id !== id) {
    throw new DomainError("not_found", "scope: this evaluation has no such build");
  }
  const scopeBuildId = root?.build_id ?? null;
  const counts = await countEvaluationBuilds(deps.db, id, scopeBuildId);
  const rows = await listEvaluationBuilds(deps.db, id, { limit, offset, scopeBuildId });
  const builds = rows.map((row) => ({
    id: row.id,
    name: row.drv_path,
    status: buildStatusName(row.status),
    has_artefacts: row.has_products,
    updated_at: naiveTime(row.updated_at),
    build_time_ms: row.build_time_ms,
  }));
  return { builds, ...counts };
}

export async function listMessagesOf(deps: ReadDeps, actor: Actor, id: string): Promise<EvaluationMessage[]> {
  await requireEvaluation(deps, actor, id, "read");
  const rows = await listEvaluationMessages(deps.db, id, MESSAGES_MAX);
  return rows.map((row) => ({
    id: row.id,
    level: levelName(row.level),
    message: row.message,
    source: row.source,
    created_at: naiveTime(row.created_at),
    entry_points: row.attribute ? [formatAttributePath(row.attribute)] : [],
  }));
}

function levelName(level: number): EvaluationMessage["level"] {
  if (level === MessageLevel.Error) return "Error";
  return level === MessageLevel.Warning ? "Warning" : "Notice";
}
