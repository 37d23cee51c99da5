import type { Transaction } from "kysely";
import type { EvaluateBody } from "../api/projects.ts";
import {
  findLastEvaluation,
  hasWritableCache,
  insertEvaluation,
  listActiveEvaluations,
  lockProjectToEvaluate,
  lockSubscriptions,
} from "../db/projects-evaluations.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { EvaluationStatus, evaluationStatusName } from "../domain/states.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { type ProjectAccess, requireProject } from "./access.ts";
import type { ProjectName } from "./projects.ts";
import type { ProjectDeps } from "./projects-deps.ts";
import { parseRepository } from "./projects-rules.ts";

export interface EvaluateResult {
  readonly evaluationId: string;
  /** What happened, for the person who asked. */
  readonly message: string;
}

/**
 * Evaluates the repository's HEAD, or with `restart_failed` lets the failed builds of the last evaluation run again.
 * Throws `repository_unreachable` with git's own words, and `bad_request` while an evaluation of the project is active
 * or when nothing is there to restart.
 */
export async function evaluateProject(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  { mode, signal }: EvaluateBody & { readonly signal: AbortSignal },
): Promise<EvaluateResult> {
  const access = await requireProject(deps, actor, name, "triggerEvaluation");
  await refuseWhileActive(deps, access.project.id);
  return mode === "restart_failed"
    ? await restartFailed(deps, actor, access.project.id)
    : await evaluateHead(deps, actor, access, signal);
}

async function evaluateHead(
  deps: ProjectDeps,
  actor: Actor,
  { project, organization }: ProjectAccess,
  signal: AbortSignal,
): Promise<EvaluateResult> {
  const { url } = parseRepository(project.repository, deps.projects);
  const { commit } = await deps.git.resolve(url, { signal });
  const created = await createEvaluation(deps, {
    projectId: project.id,
    organizationId: organization.id,
    repository: project.repository,
    commit,
    startedBy: requireUser(actor).id,
  });
  deps.notifier.notify("work", organization.id);
  const message = created.waits
    ? `Evaluation ${created.id} of commit ${commit} waits until the organization subscribes to a cache it may write to`
    : `Evaluation ${created.id} of commit ${commit} is queued`;
  return { evaluationId: created.id, message };
}

async function restartFailed(deps: ProjectDeps, actor: Actor, projectId: string): Promise<EvaluateResult> {
  const last = await findLastEvaluation(deps.db, projectId);
  if (!last) throw new DomainError("bad_request", "This project has no evaluation yet: start one without `mode`");
  const evaluationId = await deps.control.restartFailed(last.id, requireUser(actor).id);
  return { evaluationId, message: `What failed in evaluation ${last.id} runs again in evaluation ${evaluationId}` };
}

export interface EvaluationOrder {
  readonly projectId: string;
  readonly organizationId: string;
  /** What the commit was resolved in. */
  readonly repository: string;
  readonly commit: string;
  readonly startedBy: string | null;
}

/**
 * The new evaluation of a project that has none active; it waits when its builds would have no cache to go to. Whoever
 * calls wakes the scheduler afterwards.
 */
export async function createEvaluation(
  deps: Pick<ProjectDeps, "db" | "clock" | "random">,
  { projectId, organizationId, repository, commit, startedBy }: EvaluationOrder,
): Promise<{ readonly id: string; readonly waits: boolean }> {
  const create = async (trx: Transaction<Database>) => {
    let writable = await hasWritableCache(trx, organizationId);
    if (!writable) {
      // A subscription that is made at this moment either is seen now, or sees this evaluation waiting.
      await lockSubscriptions(trx, organizationId);
      writable = await hasWritableCache(trx, organizationId);
    }
    const project = await lockProjectToEvaluate(trx, projectId);
    if (!project) throw new DomainError("not_found", "Project not found");
    if (project.repository !== repository) {
      throw new DomainError("conflict", "The project's repository was changed meanwhile: start the evaluation again");
    }
    await refuseWhileActive({ db: trx }, projectId);

    const id = uuidV7(deps.clock.now(), deps.random);
    await insertEvaluation(trx, {
      id,
      organization_id: organizationId,
      project_id: projectId,
      repository,
      commit_hash: commit,
      wildcard: project.wildcard,
      status: writable ? EvaluationStatus.Queued : EvaluationStatus.Waiting,
      waiting_reason: writable ? null : { kind: "no_cache" },
      previous_id: (await findLastEvaluation(trx, projectId))?.id ?? null,
      started_by: startedBy,
    });
    return { id, waits: !writable };
  };
  return await inTransaction(deps.db, create, deps);
}

async function refuseWhileActive({ db }: Pick<ProjectDeps, "db">, projectId: string): Promise<void> {
  const [active] = await listActiveEvaluations(db, projectId, 1);
  if (!active) return;
  const status = evaluationStatusName(active.status);
  throw new DomainError(
    "bad_request",
    `Evaluation ${active.id} of this project is in progress (${status}): wait for its end or abort it first`,
  );
}
