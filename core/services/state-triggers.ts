import type { StateProject } from "../api/state.ts";
import type { StateTrigger } from "../api/state-projects.ts";
import type { TriggerConfig } from "../api/triggers.ts";
import { findIntegrationId } from "../db/state-integrations.ts";
import type { ProjectTriggerRow } from "../db/tables/triggers.ts";
import { changeTrigger, deleteTrigger, insertTrigger, listTriggers } from "../db/triggers.ts";
import { IntegrationKind } from "../domain/integrations.ts";
import type { StateContext } from "./state-context.ts";
import { configOf, firstDue, storedConfig, triggerTypeNumber } from "./triggers-rules.ts";
import { TRIGGERS_MAX } from "./triggers-schedule.ts";

/** What every project has that nobody said anything of: somebody has to notice that its repository has changed. */
const FIRST_TRIGGER: StateTrigger = { type: "polling", config: { interval_secs: 300 }, active: true };

interface Place {
  readonly id: string;
  readonly organizationId: string;
  readonly isNew: boolean;
}

/**
 * Triggers with the same settings stay what they are, with what they know of the repository; the others come and go.
 * A project that does not name any keeps those that it has.
 */
export async function reconcileTriggers(
  context: StateContext,
  project: StateProject,
  { id: projectId, organizationId, isNew }: Place,
): Promise<void> {
  if (project.triggers == null && !isNew) return;
  const { trx, deps } = context;
  const unclaimed = await listTriggers(trx, projectId, TRIGGERS_MAX);
  let changed = false;
  for (const trigger of project.triggers ?? [FIRST_TRIGGER]) {
    const config = await resolvedConfig(context, project, trigger, organizationId);
    if (config === null) continue;
    const due = firstDue(config, deps.clock.now());
    const columns = { type: triggerTypeNumber(config.type), config: storedConfig(config), active: trigger.active, due };
    const index = unclaimed.findIndex((row) => isSame(row, config));
    const [row] = index < 0 ? [] : unclaimed.splice(index, 1);
    if (row?.active === trigger.active) continue;
    if (row) await changeTrigger(trx, row.id, columns);
    else await insertTrigger(trx, { id: context.newId(), project_id: projectId, ...columns });
    changed = true;
  }
  for (const { id } of unclaimed) changed = (await deleteTrigger(trx, projectId, id)) || changed;
  if (changed && !isNew) context.note("changed", `triggers of the project ${project.name} of ${project.organization}`);
}

/** Null, with a problem put down, where the integration is neither in the file nor on the server. */
async function resolvedConfig(
  context: StateContext,
  project: StateProject,
  trigger: StateTrigger,
  organizationId: string,
): Promise<TriggerConfig | null> {
  switch (trigger.type) {
    case "polling":
      return { type: "polling", interval_secs: trigger.config.interval_secs, branch: trigger.config.branch ?? null };
    case "time":
      return { type: "time", cron: trigger.config.cron };
  }
  const { integration: name } = trigger;
  const integration_id = await findIntegrationId(context.trx, organizationId, { kind: IntegrationKind.inbound, name });
  if (integration_id === undefined) {
    const index = project.triggers?.indexOf(trigger) ?? 0;
    const path = ["projects", project.key, "triggers", index, "integration"];
    context.report(path, `the server has no inbound integration ${name} of ${project.organization}`);
    return null;
  }
  if (trigger.type === "reporter_push") {
    const { branches, tags, releases_only } = trigger.config;
    return { type: "reporter_push", integration_id, branches, tags, releases_only };
  }
  const { branches, actions, require_approval } = trigger.config;
  return { type: "reporter_pull_request", integration_id, branches, actions, require_approval };
}

/** PostgreSQL gives the keys of a JSON object in an order of its own. */
function isSame(row: ProjectTriggerRow, config: TriggerConfig): boolean {
  return canonical(configOf(row)) === canonical(config);
}

function canonical(config: TriggerConfig): string {
  return JSON.stringify(Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1)));
}
