import type { Transaction } from "kysely";
import { CONCURRENCY } from "../api/projects.ts";
import type { Database } from "../db/schema.ts";
import {
  listExportedInputs,
  listExportedIntegrations,
  listExportedProjects,
  listExportedTriggers,
} from "../db/state-export.ts";
import type { NixValue } from "../domain/nix-text.ts";
import { exportedActions } from "./state-actions.ts";
import type { ExportedEntry } from "./state-export-keys.ts";
import { nameOf } from "./state-export-organizations.ts";
import { configOf } from "./triggers-rules.ts";

type TriggerRow = Awaited<ReturnType<typeof listExportedTriggers>>[number];

/** `names`: of users, by id. */
export async function exportProjects(
  trx: Transaction<Database>,
  names: ReadonlyMap<string, string>,
): Promise<ExportedEntry[]> {
  const triggers = Map.groupBy(await listExportedTriggers(trx), ({ project_id }) => project_id);
  const inputs = Map.groupBy(await listExportedInputs(trx), ({ project_id }) => project_id);
  const integrations = new Map((await listExportedIntegrations(trx)).map(({ id, name }) => [id, name]));
  const actions = await exportedActions(trx);
  return (await listExportedProjects(trx)).map((row) => {
    const own = (triggers.get(row.id) ?? []).flatMap((trigger) => exportTrigger(trigger, integrations));
    const overrides = (inputs.get(row.id) ?? []).map(({ input_name, url }) => {
      return [input_name, url === null ? { keep_url: true } : { url }] as const;
    });
    const value: NixValue = {
      name: row.name,
      organization: row.organization,
      display_name: row.display_name,
      description: row.description,
      repository: row.repository,
      wildcard: row.wildcard,
      active: row.active,
      sign_cache: row.sign_cache,
      keep_evaluations: row.keep_evaluations,
      concurrency: CONCURRENCY[row.concurrency] ?? null,
      deploy_branch: row.deploy_branch,
      deploy_hold: row.deploy_hold,
      deploy_wave_percent: row.deploy_wave_percent,
      deploy_soak_seconds: row.deploy_soak_seconds,
      // An empty list is a mistake in a file; without any, those of the server stay: none.
      triggers: own.length > 0 ? own : null,
      flake_input_overrides: Object.fromEntries(overrides),
      actions: actions.get(row.id) ?? [],
      created_by: nameOf(names, row.created_by),
    };
    return { keys: [row.name, `${row.organization}-${row.name}`], value };
  });
}

/** Nothing for one whose integration is gone: no forge can fire it. */
function exportTrigger(row: TriggerRow, integrations: ReadonlyMap<string, string>): NixValue[] {
  const { type, ...config } = configOf(row);
  const { active } = row;
  if (!("integration_id" in config)) return [{ type, config, active }];
  const { integration_id, ...rest } = config;
  const integration = integrations.get(integration_id);
  return integration === undefined ? [] : [{ type, integration, config: rest, active }];
}
