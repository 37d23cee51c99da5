import { CONCURRENCY, type Concurrency, type EvaluationSummary, type ProjectView } from "../api/projects.ts";
import { naiveTime } from "../api/times.ts";
import type { EvaluationSummaryRow } from "../db/evaluations-read.ts";
import type { ProjectRow } from "../db/schema.ts";
import { allowsOrganization } from "../domain/permissions.ts";
import { evaluationStatusName } from "../domain/states.ts";
import { assert } from "../lib/assert.ts";
import { redactUrl } from "../nix/flake-ref.ts";
import type { OrganizationAccess } from "./access.ts";
import { viewEvaluationTrigger } from "./triggers-view.ts";

const COMMIT_TITLE_LENGTH_MAX = 100;

export interface LastEvaluation {
  readonly id: string;
  readonly status: number;
}

/** A project as this actor may have it. */
export function viewProject(
  access: Pick<OrganizationAccess, "mask">,
  project: ProjectRow,
  last: LastEvaluation | undefined,
): ProjectView {
  const mayEdit = allowsOrganization(access.mask, "editProject");
  return {
    id: project.id,
    organization: project.organization_id,
    name: project.name,
    active: project.active,
    display_name: project.display_name,
    description: project.description,
    repository: mayEdit ? project.repository : redactUrl(project.repository),
    wildcard: project.wildcard,
    last_evaluation: last?.id ?? null,
    last_evaluation_status: last ? evaluationStatusName(last.status) : null,
    force_evaluation: project.force_evaluation,
    created_by: project.created_by,
    created_at: naiveTime(project.created_at),
    managed: project.managed,
    keep_evaluations: project.keep_evaluations,
    concurrency: concurrencyName(project.concurrency),
    sign_cache: project.sign_cache,
    deploy_branch: project.deploy_branch,
    deploy_hold: project.deploy_hold,
    deploy_wave_percent: project.deploy_wave_percent,
    deploy_soak_seconds: project.deploy_soak_seconds,
    can_edit: mayEdit && !project.managed,
    can_trigger: allowsOrganization(access.mask, "triggerEvaluation"),
  };
}

export function viewEvaluationSummary(row: EvaluationSummaryRow): EvaluationSummary {
  const { completed, failed, building, queued, substituted, aborted } = row;
  return {
    id: row.id,
    commit: row.commit_hash,
    commit_message: commitTitle(row.commit_message),
    status: evaluationStatusName(row.status),
    trigger: viewEvaluationTrigger(row),
    triggered_by: row.triggered_by,
    branch: row.branch,
    pr_number: null,
    total_builds: completed + failed + building + queued,
    builds: { completed, failed, building, queued, substituted, aborted },
    errors: row.errors,
    warnings: row.warnings,
    created_at: naiveTime(row.created_at),
    updated_at: naiveTime(row.updated_at),
  };
}

function concurrencyName(policy: number): Concurrency {
  const name = CONCURRENCY[policy];
  assert(name !== undefined, `no concurrency policy has the number ${policy}`);
  return name;
}

function commitTitle(message: string): string {
  const line = message.split("\n", 1)[0] ?? "";
  return Array.from(line).slice(0, COMMIT_TITLE_LENGTH_MAX).join("");
}
