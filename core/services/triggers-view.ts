import type { Kysely } from "kysely";
import { naiveTime } from "../api/times.ts";
import type { EvaluationTrigger, TriggerIntegration, TriggerView } from "../api/triggers.ts";
import type { Database, ProjectRow } from "../db/schema.ts";
import type { ProjectTriggerRow } from "../db/tables/triggers.ts";
import { listIntegrationsByIds } from "../db/triggers-integrations.ts";
import { forgeTypeName } from "../domain/integrations.ts";
import { configOf, triggerTypeName } from "./triggers-rules.ts";

type TriggerProject = Pick<ProjectRow, "id" | "organization_id" | "active">;

export async function viewTriggers(
  db: Kysely<Database>,
  project: TriggerProject,
  rows: readonly ProjectTriggerRow[],
): Promise<TriggerView[]> {
  const ids = rows.flatMap((row) => integrationId(row) ?? []);
  const found = await listIntegrationsByIds(db, project.organization_id, ids);
  const integrations = new Map(found.map(({ forge_type, ...row }) => [row.id, { ...row, forge_type }]));
  return rows.map((row) => {
    const integration = integrations.get(integrationId(row) ?? "");
    const shown = integration && { ...integration, forge_type: forgeTypeName(integration.forge_type) };
    return viewRow(project, row, shown ?? null);
  });
}

export async function viewTrigger(
  db: Kysely<Database>,
  project: TriggerProject,
  row: ProjectTriggerRow,
): Promise<TriggerView> {
  const [view] = await viewTriggers(db, project, [row]);
  return view as TriggerView;
}

/** Of an evaluation; null where nobody but a person began it, and where the trigger is gone. */
export function viewEvaluationTrigger(row: {
  readonly trigger_id: string | null;
  readonly trigger_type: number | null;
}): EvaluationTrigger | null {
  if (row.trigger_id === null || row.trigger_type === null) return null;
  return { id: row.trigger_id, type: triggerTypeName(row.trigger_type) };
}

function viewRow(project: TriggerProject, row: ProjectTriggerRow, integration: TriggerIntegration | null): TriggerView {
  const isLookedAt = row.active && project.active;
  return {
    id: row.id,
    project: row.project_id,
    type: triggerTypeName(row.type),
    config: configOf(row),
    active: row.active,
    last_fired_at: row.last_fired_at && naiveTime(row.last_fired_at),
    last_checked_at: row.last_checked_at && naiveTime(row.last_checked_at),
    next_check_at: isLookedAt && row.due_at ? naiveTime(row.due_at) : null,
    last_error: row.last_error,
    created_at: naiveTime(row.created_at),
    updated_at: naiveTime(row.updated_at),
    integration,
  };
}

function integrationId({ config }: ProjectTriggerRow): string | null {
  const { integration_id: id } = config;
  return typeof id === "string" ? id : null;
}
