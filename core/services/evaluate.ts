import type { Concurrency, EvaluateBody } from "../api/projects.ts";
import { findLastEvaluation, listCompetingEvaluations } from "../db/projects-evaluations.ts";
import { clearForce, noteDefaultBranch } from "../db/triggers.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { type ProjectAccess, requireProject } from "./access.ts";
import { createEvaluation, EvaluationInProgressError } from "./evaluations-create.ts";
import type { ProjectName } from "./projects.ts";
import type { ProjectDeps } from "./projects-deps.ts";
import { resolveHead } from "./projects-head.ts";

export interface EvaluateResult {
  readonly evaluationId: string;
  /** What happened, for the person who asked. */
  readonly message: string;
}

/**
 * Evaluates the repository's HEAD or a branch, or with `restart_failed` lets the failed builds of the last evaluation
 * run again. `concurrency` says what becomes of an evaluation of the project that goes on; without it nothing is
 * started beside one. Throws `repository_unreachable` with git's own words, and `bad_request` when an evaluation that
 * goes on is in the way, or when nothing is there to restart.
 */
export async function evaluateProject(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  { mode, concurrency = "skip", branch = null, signal }: EvaluateBody & { readonly signal: AbortSignal },
): Promise<EvaluateResult> {
  const access = await requireProject(deps, actor, name, "triggerEvaluation");
  if (mode === "restart_failed" && branch !== null) {
    throw new DomainError(
      "bad_request",
      "branch: `restart_failed` is about the last evaluation, whatever its branch: leave out one of both",
    );
  }
  if (concurrency === "skip") await refuseWhileActive(deps, access.project.id);
  return mode === "restart_failed"
    ? await restartFailed(deps, actor, access.project.id)
    : await evaluateHead(deps, actor, access, { concurrency, branch, signal });
}

interface HeadOrder {
  readonly concurrency: Concurrency | "project";
  /** Null: what HEAD points to. */
  readonly branch: string | null;
  readonly signal: AbortSignal;
}

async function evaluateHead(
  deps: ProjectDeps,
  actor: Actor,
  { project, organization }: ProjectAccess,
  { concurrency, branch, signal }: HeadOrder,
): Promise<EvaluateResult> {
  const head = await resolveHead(deps, project, { branch, signal });
  const { commit } = head;
  const created = await createEvaluation(deps, {
    projectId: project.id,
    organizationId: organization.id,
    repository: project.repository,
    commit,
    branch: head.branch,
    startedBy: requireUser(actor).id,
    concurrency,
    within: async (trx) => {
      await clearForce(trx, project.id);
      await noteDefaultBranch(trx, project.id, head.defaultBranch);
    },
  });
  const { id: evaluationId, waiting, aborted } = created;
  const state = waiting ? WAITS[waiting.kind] : "is queued";
  const instead = aborted.length > 0 ? `; it takes the place of ${aborted.join(", ")}` : "";
  return { evaluationId, message: `Evaluation ${evaluationId} of commit ${commit} ${state}${instead}` };
}

const WAITS: Readonly<Record<string, string>> = {
  no_cache: "waits until the organization subscribes to a cache it may write to",
  cache_storage_full: "waits until a cache that the organization writes to has room",
};

async function restartFailed(deps: ProjectDeps, actor: Actor, projectId: string): Promise<EvaluateResult> {
  const last = await findLastEvaluation(deps.db, projectId);
  if (!last) throw new DomainError("bad_request", "This project has no evaluation yet: start one without `mode`");
  const evaluationId = await deps.control.restartFailed(last.id, requireUser(actor).id);
  return { evaluationId, message: `What failed in evaluation ${last.id} runs again in evaluation ${evaluationId}` };
}

async function refuseWhileActive({ db }: Pick<ProjectDeps, "db">, projectId: string): Promise<void> {
  const [active] = await listCompetingEvaluations(db, projectId);
  if (active) throw new EvaluationInProgressError(active);
}
