import type { Transaction } from "kysely";
import { ACTION_EVENTS } from "../api/project-actions.ts";
import type { StateProject } from "../api/state.ts";
import type { StateAction } from "../api/state-projects.ts";
import { deleteAction, insertAction, listActions, updateAction } from "../db/project-actions.ts";
import type { Database } from "../db/schema.ts";
import { listExportedActions } from "../db/state-export.ts";
import type { ProjectActionRow, StoredActionConfig } from "../db/tables/actions.ts";
import type { NixValue } from "../domain/nix-text.ts";
import { utf8 } from "../lib/bytes.ts";
import { ACTIONS_MAX } from "./project-actions.ts";
import { actionTokenPlace, actionTypeName, actionTypeNumber } from "./project-actions-rules.ts";
import { differences, isEmpty, type StateContext } from "./state-context.ts";
import { holds } from "./state-sealed.ts";
import { secretNames } from "./state-secrets.ts";

/** By their names; those that the file does not name go. */
export async function reconcileActions(context: StateContext, project: StateProject, projectId: string): Promise<void> {
  const { trx } = context;
  const rows = new Map((await listActions(trx, projectId, ACTIONS_MAX)).map((row) => [row.name, row]));
  let changed = false;
  for (const action of project.actions) {
    const row = rows.get(action.name);
    const isSameType = row?.type === actionTypeNumber(action.type);
    // An action stays of its type: another one by its name is another one.
    if (row && !isSameType) await deleteAction(trx, projectId, row.id);
    rows.delete(action.name);
    changed = (await putAction(context, { project, projectId, action }, isSameType ? row : undefined)) || changed;
  }
  for (const { id } of rows.values()) changed = (await deleteAction(trx, projectId, id)) || changed;
  if (changed) context.note("changed", `actions of the project ${project.name} of ${project.organization}`);
}

/** By the ids of their projects, as a state file has them. */
export async function exportedActions(trx: Transaction<Database>): Promise<ReadonlyMap<string, NixValue[]>> {
  const rows = Map.groupBy(await listExportedActions(trx), ({ project_id }) => project_id);
  return new Map([...rows].map(([id, own]) => [id, own.map(exportAction)]));
}

async function putAction(
  context: StateContext,
  {
    project,
    projectId,
    action,
  }: { readonly project: StateProject; readonly projectId: string; readonly action: StateAction },
  row: ProjectActionRow | undefined,
): Promise<boolean> {
  const { trx } = context;
  const id = row?.id ?? context.newId();
  const token = await changedToken(context, { project, action, id, sealed: row?.token ?? null });
  const events = ACTION_EVENTS.filter((event) => (action.events as readonly unknown[]).includes(event));
  const wanted = { events: [...events] as string[], active: action.active };
  const config = configOf(action);
  if (!row) {
    const type = actionTypeNumber(action.type);
    const created_by = context.userId(project.created_by);
    const columns = { id, project_id: projectId, name: action.name, type, config, created_by, token: null };
    await insertAction(trx, { ...columns, ...wanted, ...token });
    return true;
  }
  const changes = {
    ...differences(row, wanted),
    ...(canonical(row.config) === canonical(config) ? {} : { config }),
    ...token,
  };
  if (isEmpty(changes)) return false;
  await updateAction(trx, id, changes);
  return true;
}

/** Nothing where it is so already: sealed anew, the same token would look like another one. */
async function changedToken(
  context: StateContext,
  {
    project,
    action,
    id,
    sealed,
  }: {
    readonly project: StateProject;
    readonly action: StateAction;
    readonly id: string;
    readonly sealed: Uint8Array | null;
  },
): Promise<{ readonly token?: Uint8Array | null }> {
  if (action.type !== "send_web_request") return {};
  const { token_file, has_token_file } = action.config;
  const text = context.secret(token_file, secretNames.action(project, action.name));
  if (text === null) return has_token_file || sealed === null ? {} : { token: null };
  const place = actionTokenPlace(id);
  return (await holds(context, place, sealed, text))
    ? {}
    : { token: await context.deps.secrets.seal(place, utf8(text)) };
}

/** Without secrets, as the row has it. */
function configOf(action: StateAction): StoredActionConfig {
  if (action.type === "send_web_request") return { url: action.config.url };
  if (action.type === "send_mail") {
    const { recipients, subject_template } = action.config;
    return { recipients, subject_template: subject_template ?? null };
  }
  return action.config;
}

function exportAction({ name, type, config, events, active, token }: ProjectActionRow): NixValue {
  const secret =
    actionTypeName(type) === "send_web_request" ? { token_file: null, has_token_file: token !== null } : {};
  const settings = { ...(config as Readonly<Record<string, NixValue>>), ...secret };
  return { name, type: actionTypeName(type), config: settings, events, active };
}

function canonical(config: StoredActionConfig): string {
  return JSON.stringify(Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1)));
}
