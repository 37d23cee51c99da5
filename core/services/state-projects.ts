import type { Selectable } from "kysely";
import { CONCURRENCY } from "../api/projects.ts";
import type { StateProject } from "../api/state.ts";
import { lockToStop } from "../db/evaluation-stop.ts";
import { listFlakeInputs } from "../db/flake-inputs.ts";
import { listActiveEvaluations, lockProjectToEvaluate } from "../db/projects-evaluations.ts";
import type { ProjectTable } from "../db/schema.ts";
import {
  deleteManaged,
  insertManaged,
  lockStateProjects,
  releaseManaged,
  setFlakeInputs,
  updateManaged,
} from "../db/state-rows.ts";
import { EvaluationStatus } from "../domain/states.ts";
import { FLAKE_INPUTS_MAX } from "./flake-inputs.ts";
import { keepEvaluationsAtFirst } from "./projects-rules.ts";
import { reconcileActions } from "./state-actions.ts";
import { differences, isEmpty, type StateContext } from "./state-context.ts";
import { reconcileTriggers } from "./state-triggers.ts";
import { stopEvaluation } from "./transitions/abort.ts";

type ProjectRow = Awaited<ReturnType<typeof lockStateProjects>>[number];

/** Of a project that is deleted; more than these have never been active together. */
const ACTIVE_MAX = 10_000;

/** With their triggers and overridden inputs. */
export async function reconcileProjects(context: StateContext): Promise<void> {
  const rows = await lockStateProjects(context.trx, [...context.organizationIds.values()]);
  const known = new Map(rows.map((row) => [`${row.organization_id} ${row.name}`, row]));
  for (const project of context.document.projects) {
    const organizationId = context.organizationId(project.organization);
    const row = known.get(`${organizationId} ${project.name}`);
    const id = await putProject(context, project, { organizationId, row });
    const inputsChanged = await putInputs(context, project, id);
    if (inputsChanged && row) await updateManaged(context.trx, "project", id, { force_evaluation: true });
    await reconcileTriggers(context, project, { id, organizationId, isNew: !row });
    await reconcileActions(context, project, id);
  }
}

export async function removeProjects(context: StateContext): Promise<void> {
  const { trx, document, options } = context;
  const declared = new Set(document.projects.map(({ organization, name }) => JSON.stringify([organization, name])));
  const leaving = (await lockStateProjects(trx, [])).filter(
    (row) => row.managed && !declared.has(JSON.stringify([row.organization_name, row.name])),
  );
  const ids = leaving.map(({ id }) => id);
  if (options.deleteUnlisted) {
    await stopProjects(context, leaving);
    await deleteManaged(trx, "project", ids);
  } else await releaseManaged(trx, "project", ids);
  for (const { name, organization_name } of leaving) {
    context.note(options.deleteUnlisted ? "deleted" : "released", `project ${name} of ${organization_name}`);
  }
}

/** Ends what runs for projects that go: its builds would stay open with nobody who needs them. */
export async function stopProjects(
  { trx, wakeups }: StateContext,
  projects: readonly Pick<Selectable<ProjectTable>, "id" | "organization_id">[],
): Promise<void> {
  for (const { id, organization_id } of projects) {
    await lockProjectToEvaluate(trx, id);
    for (const evaluation of await listActiveEvaluations(trx, id, ACTIVE_MAX)) {
      await lockToStop(trx, evaluation.id);
      const reason = "the project is not declared any more";
      await stopEvaluation(trx, wakeups, { evaluationId: evaluation.id, status: EvaluationStatus.Aborted, reason });
    }
    wakeups.work(organization_id);
  }
}

async function putProject(
  context: StateContext,
  project: StateProject,
  { organizationId, row }: { readonly organizationId: string; readonly row: ProjectRow | undefined },
): Promise<string> {
  const { name, display_name, description, repository, wildcard, active, sign_cache } = project;
  const wanted = {
    display_name,
    description,
    repository,
    wildcard,
    active,
    sign_cache,
    deploy_branch: project.deploy_branch ?? null,
    deploy_hold: project.deploy_hold,
    deploy_wave_percent: project.deploy_wave_percent,
    deploy_soak_seconds: project.deploy_soak_seconds,
    keep_evaluations: keptEvaluations(context, project, row),
    concurrency: CONCURRENCY.indexOf(project.concurrency),
  };
  const what = `project ${name} of ${project.organization}`;
  const created_by = context.userId(project.created_by);
  if (!row) {
    const id = context.newId();
    await insertManaged(context.trx, "project", { id, organization_id: organizationId, name, created_by, ...wanted });
    context.note("created", what);
    return id;
  }
  const author = created_by === null ? {} : { created_by };
  const changes = differences(row, { ...wanted, ...author, managed: true });
  if (isEmpty(changes)) return row.id;
  const evaluatesAnew = "repository" in changes || "wildcard" in changes;
  await updateManaged(context.trx, "project", row.id, { ...changes, ...(evaluatesAnew && { force_evaluation: true }) });
  context.note(row.managed ? "changed" : "taken over", what);
  return row.id;
}

/** Never more than the server keeps of any project. */
function keptEvaluations({ deps, warnings }: StateContext, project: StateProject, row: ProjectRow | undefined): number {
  const most = deps.projects.keepEvaluations;
  const asked = project.keep_evaluations;
  if (asked == null) return keepEvaluationsAtFirst({ ...deps.projects, allowLocalSources: false });
  if (most === 0 || asked <= most) return asked;
  const words = `keep_evaluations ${asked} of the project ${project.name} of ${project.organization}`;
  if (row?.keep_evaluations !== most) warnings.push(`${words} is cut to ${most}: see GRADIENT_KEEP_EVALUATIONS`);
  return most;
}

/** False when they are so already. */
async function putInputs(context: StateContext, project: StateProject, projectId: string): Promise<boolean> {
  const { trx } = context;
  const rows = await listFlakeInputs(trx, projectId, FLAKE_INPUTS_MAX + 1);
  const wanted = Object.entries(project.flake_input_overrides).map(([input_name, { url }]) => ({
    input_name,
    url: url ?? null,
  }));
  const text = (inputs: readonly { readonly input_name: string; readonly url: string | null }[]) =>
    JSON.stringify(inputs.map(({ input_name, url }) => [input_name, url]).sort());
  if (text(rows) === text(wanted)) return false;
  await setFlakeInputs(
    trx,
    projectId,
    wanted.map((input) => ({ id: context.newId(), ...input })),
  );
  context.note("changed", `overridden inputs of the project ${project.name} of ${project.organization}`);
  return true;
}
