import type { Transaction } from "kysely";
import {
  ACTION_EVENTS,
  type ActionConfig,
  type ActionView,
  type ChangeActionBody,
  type CreateActionBody,
  type CreatedAction,
  type DeliveryDetail,
  type DeliveryView,
} from "../api/project-actions.ts";
import { naiveTime } from "../api/times.ts";
import { type DeliveryRow, findDelivery, listDeliveries } from "../db/action-deliveries.ts";
import {
  type ActionChanges,
  countActions,
  deleteAction,
  deletePendingDeliveries,
  findAction,
  insertAction,
  listActions,
  lockAction,
  updateAction,
} from "../db/project-actions.ts";
import { lockProjectToEvaluate } from "../db/projects-evaluations.ts";
import type { Database } from "../db/schema.ts";
import type { ProjectActionRow, StoredActionConfig } from "../db/tables/actions.ts";
import { inTransaction } from "../db/transaction.ts";
import { uniqueViolation } from "../db/violations.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import type { OrganizationPermission } from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";
import { type Bytes, utf8 } from "../lib/bytes.ts";
import { isUuid, uuidV7 } from "../lib/ids.ts";
import { type ProjectAccess, requireProject } from "./access.ts";
import { recordProjectAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import {
  actionTokenPlace,
  actionTypeName,
  actionTypeNumber,
  checkActionConfig,
  newActionToken,
  storedActionConfig,
  viewAction,
} from "./project-actions-rules.ts";
import type { ProjectName } from "./projects.ts";

export type ActionDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "secrets" | "settings">;
type ReadDeps = Pick<ServiceDeps, "db">;

/** Each is told of everything that it wants to know. */
export const ACTIONS_MAX = 100;
const DELIVERIES_DEFAULT = 50;
const DELIVERIES_MAX = 200;

/** What is done when something happens to the project's evaluations and builds, by name. */
export async function listProjectActions(deps: ReadDeps, actor: Actor, name: ProjectName): Promise<ActionView[]> {
  const access = await requireProject(deps, actor, name, "member");
  return (await listActions(deps.db, access.project.id, ACTIONS_MAX)).map((row) => viewAction(row, access));
}

export async function getProjectAction(
  deps: ReadDeps,
  actor: Actor,
  name: ProjectName,
  id: string,
): Promise<ActionView> {
  const access = await requireProject(deps, actor, name, "member");
  return viewAction(await findOwn(deps, access, id), access);
}

/** A web request gets a token, unless it is given one; it is answered here and never again. */
export async function addProjectAction(
  deps: ActionDeps,
  actor: Actor,
  name: ProjectName,
  { name: actionName, config, events, active }: CreateActionBody,
): Promise<CreatedAction> {
  const access = await requireProject(deps, actor, name, "manageActions");
  const { project } = access;
  checkActionConfig(config, { mailIsOn: deps.settings.mail !== null });
  const id = uuidV7(deps.clock.now(), deps.random);
  const token = config.type === "send_web_request" ? (config.token ?? newActionToken(deps.random)) : null;
  const sealed = token === null ? null : await sealToken(deps, id, token);
  const insert = inTransaction(
    deps.db,
    async (trx) => {
      await lockProjectToEvaluate(trx, project.id);
      if ((await countActions(trx, project.id)) >= ACTIONS_MAX) {
        throw new DomainError("bad_request", `A project has at most ${ACTIONS_MAX} actions: remove one first`);
      }
      const event = "project.action.create";
      await recordProjectAudit(trx, actor, project, { event, action: actionName, action_id: id, type: config.type });
      return await insertAction(trx, {
        id,
        project_id: project.id,
        name: actionName,
        type: actionTypeNumber(config.type),
        config: storedActionConfig(config),
        token: sealed,
        events: inOrder(events),
        active,
        created_by: requireUser(actor).id,
      });
    },
    deps,
  );
  const action = viewAction(await insert.catch(nameTaken), access);
  return token === null ? { action } : { action, token };
}

/** Who may change an action may not read its token, and so may not have it sent to themselves either. */
function requireSamePlace(before: StoredActionConfig, config: ActionConfig): void {
  if (config.type !== "send_web_request" || typeof before.url !== "string") return;
  if (new URL(before.url).origin === new URL(config.url).origin) return;
  throw new DomainError(
    "bad_request",
    "config.token: the stored token is for the address that the action had: give one with the new address",
  );
}

/** A web request keeps its token unless it is given another. One that is switched off sends nothing that waits. */
export async function changeProjectAction(
  deps: ActionDeps,
  actor: Actor,
  name: ProjectName,
  id: string,
  { config, events, ...given }: ChangeActionBody,
): Promise<ActionView> {
  const access = await requireProject(deps, actor, name, "manageActions");
  if (config) checkActionConfig(config, { mailIsOn: deps.settings.mail !== null });
  const givenToken = config?.type === "send_web_request" ? config.token : null;
  const token = givenToken === null || !isUuid(id) ? undefined : await sealToken(deps, id, givenToken);
  const changes: ActionChanges = {
    ...(given.name !== undefined && { name: given.name }),
    ...(given.active !== undefined && { active: given.active }),
    ...(events && { events: inOrder(events) }),
    ...(config && { config: storedActionConfig(config) }),
    ...(token && { token }),
  };
  const change = inTransaction(
    deps.db,
    async (trx) => {
      const before = isUuid(id) ? await lockAction(trx, access.project.id, id) : undefined;
      if (!before) return unknownAction();
      if (config && config.type !== actionTypeName(before.type)) {
        throw new DomainError("bad_request", "config.type: an action stays of its type; make another one");
      }
      if (config && before.token !== null && givenToken === null) requireSamePlace(before.config, config);
      if (given.active === false) await deletePendingDeliveries(trx, id);
      const event = "project.action.update";
      const changed = Object.keys(changes);
      await recordProjectAudit(trx, actor, access.project, { event, action: before.name, action_id: id, changed });
      return await updateAction(trx, id, changes);
    },
    deps,
  );
  return viewAction(await change.catch(nameTaken), access);
}

export async function removeProjectAction(
  deps: ActionDeps,
  actor: Actor,
  name: ProjectName,
  id: string,
): Promise<void> {
  const { project } = await requireProject(deps, actor, name, "manageActions");
  const remove = async (trx: Transaction<Database>): Promise<void> => {
    const action = isUuid(id) ? await lockAction(trx, project.id, id) : undefined;
    if (!action || !(await deleteAction(trx, project.id, id))) return unknownAction();
    await recordProjectAudit(trx, actor, project, {
      event: "project.action.delete",
      action: action.name,
      action_id: id,
    });
  };
  await inTransaction(deps.db, remove, deps);
}

/** The old token is good for nothing from then on. */
export async function regenerateActionToken(
  deps: ActionDeps,
  actor: Actor,
  name: ProjectName,
  id: string,
): Promise<{ readonly token: string }> {
  const access = await requireProject(deps, actor, name, "manageActions");
  if (!isUuid(id)) return unknownAction();
  const token = newActionToken(deps.random);
  const sealed = await sealToken(deps, id, token);
  const replace = async (trx: Transaction<Database>): Promise<void> => {
    const action = await lockAction(trx, access.project.id, id);
    if (!action) return unknownAction();
    if (actionTypeName(action.type) !== "send_web_request") {
      throw new DomainError("unprocessable_entity", "Only actions that send web requests have a token");
    }
    await updateAction(trx, id, { token: sealed });
    const event = "project.action.token.replace";
    await recordProjectAudit(trx, actor, access.project, { event, action: action.name, action_id: id });
  };
  await inTransaction(deps.db, replace, deps);
  return { token };
}

/** What came of it each time, the newest first. */
export async function listActionDeliveries(
  deps: ReadDeps,
  actor: Actor,
  name: ProjectName,
  {
    id,
    limit = DELIVERIES_DEFAULT,
    offset = 0,
  }: { readonly id: string; readonly limit?: number | undefined; readonly offset?: number | undefined },
): Promise<DeliveryView[]> {
  const action = await requireAction(deps, actor, name, { id, need: "member" });
  const page = { limit: Math.min(limit, DELIVERIES_MAX), offset };
  return (await listDeliveries(deps.db, action.id, page)).map(viewDelivery);
}

/** With what was sent and answered, which may hold secrets of the receiver: for who manages actions. */
export async function getActionDelivery(
  deps: ReadDeps,
  actor: Actor,
  name: ProjectName,
  { id, deliveryId }: { readonly id: string; readonly deliveryId: string },
): Promise<DeliveryDetail> {
  const action = await requireAction(deps, actor, name, { id, need: "manageActions" });
  const row = isUuid(deliveryId) ? await findDelivery(deps.db, action.id, deliveryId) : undefined;
  if (!row) throw new DomainError("not_found", "Delivery not found");
  return { ...viewDelivery(row), request_body: row.request_body, response_body: row.response_body };
}

export async function requireAction(
  deps: ReadDeps,
  actor: Actor,
  name: ProjectName,
  { id, need }: { readonly id: string; readonly need: "member" | OrganizationPermission },
): Promise<ProjectActionRow> {
  return await findOwn(deps, await requireProject(deps, actor, name, need), id);
}

async function findOwn({ db }: ReadDeps, { project }: ProjectAccess, id: string): Promise<ProjectActionRow> {
  return (isUuid(id) ? await findAction(db, project.id, id) : undefined) ?? unknownAction();
}

function viewDelivery(row: Omit<DeliveryRow, "request_body" | "response_body">): DeliveryView {
  const { id, event, success, response_status, error_message, duration_ms, delivered_at } = row;
  return {
    ...{ id, event, success, response_status, error_message, duration_ms },
    delivered_at: naiveTime(delivered_at),
  };
}

async function sealToken({ secrets }: Pick<ActionDeps, "secrets">, id: string, token: string): Promise<Bytes> {
  return await secrets.seal(actionTokenPlace(id), utf8(token));
}

/** Each once, as the API lists them. */
function inOrder(events: readonly string[]): string[] {
  return ACTION_EVENTS.filter((event) => events.includes(event));
}

function nameTaken(error: unknown): never {
  if (uniqueViolation(error) !== "project_action_key") throw error;
  throw new DomainError("already_exists", "name: this project has another action of this name");
}

function unknownAction(): never {
  throw new DomainError("not_found", "Action not found");
}
