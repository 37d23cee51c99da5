import type { Transaction } from "kysely";
import type { ChangeTriggerBody, CreateTriggerBody, TriggerConfig, TriggerTest, TriggerView } from "../api/triggers.ts";
import { lockProjectToEvaluate } from "../db/projects-evaluations.ts";
import type { Database } from "../db/schema.ts";
import type { ProjectTriggerRow } from "../db/tables/triggers.ts";
import { inTransaction } from "../db/transaction.ts";
import {
  changeTrigger,
  countTriggers,
  deleteTrigger,
  findTrigger,
  insertTrigger,
  listTriggers,
  lockTrigger,
  noteTriggerTested,
} from "../db/triggers.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { isUuid, uuidV7 } from "../lib/ids.ts";
import { requireProject } from "./access.ts";
import { recordProjectAudit } from "./audit.ts";
import type { ProjectName } from "./projects.ts";
import type { ProjectDeps } from "./projects-deps.ts";
import { branchNamedBy, resolveHead } from "./projects-head.ts";
import { fireTrigger } from "./triggers-fire.ts";
import { requireInboundIntegration } from "./triggers-integrations.ts";
import { checkTriggerConfig, configOf, firstDue, storedConfig, triggerTypeNumber } from "./triggers-rules.ts";
import { TRIGGERS_MAX } from "./triggers-schedule.ts";
import { viewTrigger, viewTriggers } from "./triggers-view.ts";

type WriteDeps = Pick<ProjectDeps, "db" | "clock" | "random">;

/** What begins evaluations of the project by itself, the oldest first. */
export async function listProjectTriggers(
  deps: Pick<ProjectDeps, "db">,
  actor: Actor,
  name: ProjectName,
): Promise<TriggerView[]> {
  const { project } = await requireProject(deps, actor, name, "member");
  return await viewTriggers(deps.db, project, await listTriggers(deps.db, project.id, TRIGGERS_MAX));
}

export async function getProjectTrigger(
  deps: Pick<ProjectDeps, "db">,
  actor: Actor,
  name: ProjectName,
  id: string,
): Promise<TriggerView> {
  const { project } = await requireProject(deps, actor, name, "member");
  return await viewTrigger(deps.db, project, await requireTrigger(deps, project.id, id));
}

/** The project may be declared in the server's state file: what is added here is removed when that says so. */
export async function addProjectTrigger(
  deps: WriteDeps,
  actor: Actor,
  name: ProjectName,
  { config, active }: CreateTriggerBody,
): Promise<TriggerView> {
  const { project, organization } = await requireProject(deps, actor, name, "manageTriggers");
  checkTriggerConfig(config);
  const id = uuidV7(deps.clock.now(), deps.random);
  const row = await inTransaction(
    deps.db,
    async (trx) => {
      await lockProjectToEvaluate(trx, project.id);
      if ((await countTriggers(trx, project.id)) >= TRIGGERS_MAX) {
        throw new DomainError("bad_request", `A project has at most ${TRIGGERS_MAX} triggers: remove one first`);
      }
      await requireInboundIntegration(trx, organization.id, config);
      const event = "project.trigger.create";
      await recordProjectAudit(trx, actor, project, { event, trigger_id: id, type: config.type });
      return await insertTrigger(trx, {
        id,
        project_id: project.id,
        type: triggerTypeNumber(config.type),
        config: storedConfig(config),
        active,
        due: firstDue(config, deps.clock.now()),
      });
    },
    deps,
  );
  return await viewTrigger(deps.db, project, row);
}

/** It begins anew with what was changed: times that passed while it was off are not caught up. */
export async function changeProjectTrigger(
  deps: WriteDeps,
  actor: Actor,
  name: ProjectName,
  id: string,
  body: ChangeTriggerBody,
): Promise<TriggerView> {
  const { project, organization } = await requireProject(deps, actor, name, "manageTriggers");
  if (body.config) checkTriggerConfig(body.config);
  const row = await inTransaction(
    deps.db,
    async (trx) => {
      const before = isUuid(id) ? await lockTrigger(trx, project.id, id) : undefined;
      if (!before) return unknownTrigger();
      const config: TriggerConfig = body.config ?? configOf(before);
      if (body.config) await requireInboundIntegration(trx, organization.id, body.config);
      const event = "project.trigger.update";
      const changed = Object.keys(body);
      await recordProjectAudit(trx, actor, project, { event, trigger_id: id, type: config.type, changed });
      return await changeTrigger(trx, id, {
        type: triggerTypeNumber(config.type),
        config: storedConfig(config),
        active: body.active ?? before.active,
        due: firstDue(config, deps.clock.now()),
      });
    },
    deps,
  );
  return await viewTrigger(deps.db, project, row);
}

export async function removeProjectTrigger(
  deps: WriteDeps,
  actor: Actor,
  name: ProjectName,
  id: string,
): Promise<void> {
  const { project } = await requireProject(deps, actor, name, "manageTriggers");
  const remove = async (trx: Transaction<Database>): Promise<void> => {
    if (!isUuid(id) || !(await deleteTrigger(trx, project.id, id))) unknownTrigger();
    await recordProjectAudit(trx, actor, project, { event: "project.trigger.delete", trigger_id: id });
  };
  await inTransaction(deps.db, remove, deps);
}

/**
 * Does now what the trigger would do: an evaluation of the commit that it looks at, as the project's concurrency policy
 * lets it. When it is looked at next stays as it is.
 */
export async function testProjectTrigger(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  { id, signal }: { readonly id: string; readonly signal: AbortSignal },
): Promise<TriggerTest> {
  const { project, organization } = await requireProject(deps, actor, name, "triggerEvaluation");
  const trigger = await requireTrigger(deps, project.id, id);
  if (!trigger.active) throw new DomainError("bad_request", "The trigger is switched off: switch it on first");
  const config = configOf(trigger);
  const { commit, branch } = await resolveHead(deps, project, { branch: branchNamedBy(config), signal });
  return await fireTrigger(deps, {
    triggerId: id,
    type: trigger.type,
    projectId: project.id,
    organizationId: organization.id,
    repository: project.repository,
    commit,
    branch,
    startedBy: requireUser(actor).id,
    skipSameCommit: config.type !== "time",
    note: (trx) => noteTriggerTested(trx, id, config.type === "polling" ? commit : null),
  });
}

async function requireTrigger(
  { db }: Pick<ProjectDeps, "db">,
  projectId: string,
  id: string,
): Promise<ProjectTriggerRow> {
  return (isUuid(id) ? await findTrigger(db, projectId, id) : undefined) ?? unknownTrigger();
}

function unknownTrigger(): never {
  throw new DomainError("not_found", "Trigger not found");
}
