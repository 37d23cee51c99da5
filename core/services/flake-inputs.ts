import type { AddFlakeInputBody, ChangeFlakeInputBody, FlakeInputView } from "../api/flake-inputs.ts";
import { naiveTime } from "../api/times.ts";
import {
  countFlakeInputs,
  deleteFlakeInput,
  findFlakeInput,
  insertFlakeInput,
  listFlakeInputs,
  updateFlakeInput,
} from "../db/flake-inputs.ts";
import { lockProjectToEvaluate } from "../db/projects-evaluations.ts";
import type { ProjectFlakeInputRow } from "../db/tables/flake-inputs.ts";
import { inTransaction } from "../db/transaction.ts";
import { uniqueViolation } from "../db/violations.ts";
import type { Actor } from "../domain/actor.ts";
import { allowsOrganization } from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";
import { isUuid, uuidV7 } from "../lib/ids.ts";
import { redactUrl } from "../nix/flake-ref.ts";
import { inputPatternProblem } from "../nix/input-pattern.ts";
import { checkInputUrl, InputUrlError } from "../nix/input-url.ts";
import { type ProjectAccess, requireProject } from "./access.ts";
import type { ProjectName } from "./projects.ts";
import type { ProjectDeps, ProjectSettings } from "./projects-deps.ts";

/** What one evaluation carries along. */
export const FLAKE_INPUTS_MAX = 256;

/** Which inputs of the project's flake are not what its lock says; the next evaluation takes them over. */
export async function listProjectInputs(deps: ProjectDeps, actor: Actor, name: ProjectName): Promise<FlakeInputView[]> {
  const access = await requireProject(deps, actor, name, "member");
  const rows = await listFlakeInputs(deps.db, access.project.id, FLAKE_INPUTS_MAX);
  return rows.map((row) => viewInput(access, row));
}

export async function getProjectInput(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  id: string,
): Promise<FlakeInputView> {
  const access = await requireProject(deps, actor, name, "member");
  const row = isUuid(id) ? await findFlakeInput(deps.db, access.project.id, id) : undefined;
  return viewInput(access, row ?? unknownInput());
}

export async function addProjectInput(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  { input_name, url }: AddFlakeInputBody,
): Promise<FlakeInputView> {
  const access = await requireProject(deps, actor, name, "editProject", { unmanaged: true });
  checkInput({ input_name, url }, deps.projects);
  const project_id = access.project.id;
  const id = uuidV7(deps.clock.now(), deps.random);
  const insert = inTransaction(
    deps.db,
    async (trx) => {
      await lockProjectToEvaluate(trx, project_id);
      if ((await countFlakeInputs(trx, project_id)) >= FLAKE_INPUTS_MAX) {
        throw new DomainError("bad_request", `A project overrides at most ${FLAKE_INPUTS_MAX} inputs: use patterns`);
      }
      return await insertFlakeInput(trx, { id, project_id, input_name, url });
    },
    deps,
  );
  return viewInput(access, await insert.catch(nameTaken));
}

export async function changeProjectInput(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  id: string,
  { input_name, url }: ChangeFlakeInputBody,
): Promise<FlakeInputView> {
  const access = await requireProject(deps, actor, name, "editProject", { unmanaged: true });
  checkInput({ input_name, url }, deps.projects);
  if (!isUuid(id)) return unknownInput();
  const changes = { ...(input_name === undefined ? {} : { input_name }), ...(url === undefined ? {} : { url }) };
  const row = await updateFlakeInput(deps.db, access.project.id, id, changes).catch(nameTaken);
  return viewInput(access, row ?? unknownInput());
}

export async function removeProjectInput(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  id: string,
): Promise<void> {
  const { project } = await requireProject(deps, actor, name, "editProject", { unmanaged: true });
  if (!isUuid(id) || !(await deleteFlakeInput(deps.db, project.id, id))) unknownInput();
}

function checkInput({ input_name, url }: ChangeFlakeInputBody, { allowLocalSources }: ProjectSettings): void {
  const problem = input_name === undefined ? null : inputPatternProblem(input_name);
  if (problem !== null) throw new DomainError("bad_request", `input_name: ${problem}`);
  if (url === undefined || url === null) return;
  try {
    checkInputUrl(url, { allowLocal: allowLocalSources });
  } catch (error) {
    if (error instanceof InputUrlError) throw new DomainError("bad_request", `url: ${error.message}`);
    throw error;
  }
}

function viewInput({ mask }: ProjectAccess, row: ProjectFlakeInputRow): FlakeInputView {
  const url = row.url !== null && !allowsOrganization(mask, "editProject") ? redactUrl(row.url) : row.url;
  return {
    id: row.id,
    project: row.project_id,
    input_name: row.input_name,
    url,
    created_at: naiveTime(row.created_at),
    updated_at: naiveTime(row.updated_at),
  };
}

function nameTaken(error: unknown): never {
  if (uniqueViolation(error) !== "project_flake_input_key") throw error;
  throw new DomainError("bad_request", "input_name: this project has an override of that name already");
}

function unknownInput(): never {
  throw new DomainError("not_found", "Flake input not found");
}
