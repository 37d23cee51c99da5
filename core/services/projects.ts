import type { Transaction } from "kysely";
import { type Page, type PageQuery, pageWindow } from "../api/pages.ts";
import { type ChangeProjectBody, CONCURRENCY, type CreateProjectBody, type ProjectView } from "../api/projects.ts";
import { REQUEST_PROJECT } from "../db/build-requests-project.ts";
import {
  countProjects,
  deleteProject,
  findProject,
  insertProject,
  listProjects,
  type ProjectChanges,
  setProjectActive,
  updateProject,
} from "../db/projects.ts";
import { findLastEvaluation, listActiveEvaluations, lockProjectToEvaluate } from "../db/projects-evaluations.ts";
import type { Database, ProjectRow } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { insertTrigger } from "../db/triggers.ts";
import { uniqueViolation } from "../db/violations.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { isSlug } from "../domain/names.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { requireOrganization, requireProject } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ProjectDeps } from "./projects-deps.ts";
import { checkProjectFields, keepEvaluationsAtFirst, parseRepository } from "./projects-rules.ts";
import { viewProject } from "./projects-view.ts";
import { firstTrigger, rescheduleTriggers } from "./triggers-schedule.ts";

/** Evaluations that are ended in one go before their project is deleted. */
const ABORT_BATCH = 100;
/** How often evaluations that began meanwhile are ended too. */
const ABORT_ROUNDS_MAX = 10;

export interface ProjectName {
  readonly organization: string;
  readonly project: string;
}

export async function listProjectsOf(
  deps: ProjectDeps,
  actor: Actor,
  organization: string,
  query: PageQuery,
): Promise<Page<ProjectView>> {
  const access = await requireOrganization(deps, actor, organization, "read");
  const { id, hide_build_requests } = access.organization;
  const listed = { organizationId: id, hiddenName: hide_build_requests ? REQUEST_PROJECT : null };
  const total = await countProjects(deps.db, listed);
  const rows = await listProjects(deps.db, listed, pageWindow(query));
  const items = rows.map(({ last_evaluation: id, last_evaluation_status: status, ...project }) =>
    viewProject(access, project, id === null || status === null ? undefined : { id, status }),
  );
  return { items, total, ...query };
}

/** Answers the new project's id. Its repository is looked at every five minutes, until somebody changes that. */
export async function createProject(
  deps: ProjectDeps,
  actor: Actor,
  organization: string,
  body: CreateProjectBody,
): Promise<string> {
  const access = await requireOrganization(deps, actor, organization, "createProject", { unmanaged: true });
  checkProjectFields(body, deps.projects);
  const id = uuidV7(deps.clock.now(), deps.random);
  const { name, display_name, description, repository, wildcard, concurrency, sign_cache, deploy_branch = null } = body;
  const project = {
    id,
    organization_id: access.organization.id,
    name,
    display_name,
    description,
    repository,
    wildcard,
    concurrency: CONCURRENCY.indexOf(concurrency),
    sign_cache,
    deploy_branch,
    keep_evaluations: keepEvaluationsAtFirst(deps.projects),
    created_by: requireUser(actor).id,
  };
  const triggerId = uuidV7(deps.clock.now(), deps.random);
  const insert = inTransaction(
    deps.db,
    async (trx) => {
      await insertProject(trx, project);
      await insertTrigger(trx, firstTrigger(triggerId, id));
      await record(trx, actor, "project.create", project);
    },
    deps,
  );
  await insert.catch(nameTaken);
  return id;
}

/** Whether a new project could have this name. Only who sees the organization learns anything about it. */
export async function isProjectNameFree(
  deps: ProjectDeps,
  actor: Actor,
  organization: string,
  name: string,
): Promise<boolean> {
  const access = await requireOrganization(deps, actor, organization, "member");
  return isSlug(name) && (await findProject(deps.db, access.organization.id, name)) === undefined;
}

export async function getProject(deps: ProjectDeps, actor: Actor, name: ProjectName): Promise<ProjectView> {
  const access = await requireProject(deps, actor, name, "read");
  return viewProject(access, access.project, await findLastEvaluation(deps.db, access.project.id));
}

/** Answers the project's id. The next check of the repository evaluates it again, unless only hosts are concerned. */
export async function changeProject(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  body: ChangeProjectBody,
): Promise<string> {
  const { project } = await requireProject(deps, actor, name, "editProject", { unmanaged: true });
  checkProjectFields(body, deps.projects);
  const { concurrency, ...given } = body;
  const changes = withoutAbsent({
    ...given,
    concurrency: concurrency && CONCURRENCY.indexOf(concurrency),
    force_evaluation: concernsHostsOnly(body) ? undefined : true,
  });
  const update = inTransaction(
    deps.db,
    async (trx) => {
      await updateProject(trx, project.id, changes);
      await record(trx, actor, "project.update", project, { fields: Object.keys(given) });
    },
    deps,
  );
  await update.catch(nameTaken);
  deps.notifier.notify("deployment", project.id);
  return project.id;
}

function concernsHostsOnly(body: ChangeProjectBody): boolean {
  const fields = Object.keys(body);
  return fields.length > 0 && fields.every((field) => field.startsWith("deploy_"));
}

/** Ends what runs for the project, then removes it with its evaluations. */
export async function removeProject(deps: ProjectDeps, actor: Actor, name: ProjectName): Promise<void> {
  const { project } = await requireProject(deps, actor, name, "editProject", { unmanaged: true });
  await setProjectActive(deps.db, project.id, false);
  for (let round = 0; round < ABORT_ROUNDS_MAX; round++) {
    for (const { id } of await listActiveEvaluations(deps.db, project.id, ABORT_BATCH))
      await abortUnlessEnded(deps, id);
    if (await inTransaction(deps.db, (trx) => deleteUnlessActive(trx, actor, project), deps)) return;
  }
  throw new DomainError("conflict", "The project is evaluated again and again: stop what starts it, then delete it");
}

/** False while an evaluation is active: its builds would stay open with nobody who needs them. */
async function deleteUnlessActive(trx: Transaction<Database>, actor: Actor, project: ProjectRow): Promise<boolean> {
  if (!(await lockProjectToEvaluate(trx, project.id))) return true;
  if ((await listActiveEvaluations(trx, project.id, 1)).length > 0) return false;
  await deleteProject(trx, project.id);
  await record(trx, actor, "project.delete", project);
  return true;
}

async function record(
  trx: Transaction<Database>,
  actor: Actor,
  event: "project.create" | "project.update" | "project.delete",
  { name, organization_id: organizationId }: Pick<ProjectRow, "name" | "organization_id">,
  more: { readonly fields?: readonly string[] } = {},
): Promise<void> {
  await recordAudit(trx, { ...auditAuthor(actor), event, organizationId, metadata: { project: name, ...more } });
}

export async function switchProject(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  active: boolean,
): Promise<void> {
  const { project } = await requireProject(deps, actor, name, "editProject", { unmanaged: true });
  await inTransaction(
    deps.db,
    async (trx) => {
      await setProjectActive(trx, project.id, active);
      if (active && !project.active) await rescheduleTriggers(trx, project.id, deps.clock.now());
    },
    deps,
  );
}

/** The commit that the repository's HEAD points to. Throws `repository_unreachable` with git's own words. */
export async function checkRepository(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  signal: AbortSignal,
): Promise<string> {
  const { project } = await requireProject(deps, actor, name, "editProject", { unmanaged: true });
  const { url } = parseRepository(project.repository, deps.projects);
  return (await deps.git.resolve(url, { signal, organizationId: project.organization_id })).commit;
}

async function abortUnlessEnded(deps: ProjectDeps, evaluationId: string): Promise<void> {
  try {
    await deps.control.abort(evaluationId);
  } catch (error) {
    if (error instanceof DomainError && (error.code === "conflict" || error.code === "not_found")) return;
    throw error;
  }
}

/** Throws `already_exists` for a name that the organization has, and the error itself for any other. */
export function nameTaken(error: unknown): never {
  if (uniqueViolation(error) !== "project_name_key") throw error;
  throw new DomainError("already_exists", "name: this organization has another project of this name");
}

function withoutAbsent(changes: Record<string, unknown>): ProjectChanges {
  return Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
}
