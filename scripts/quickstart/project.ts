import { setTimeout as sleep } from "node:timers/promises";
import type { EvaluationSummary, ProjectView } from "#core/api/projects.ts";
import { ORGANIZATION } from "./account.ts";
import { type Api, ApiError } from "./api.ts";
import { QuickstartError } from "./problem.ts";
import type { Source } from "./repository.ts";

export interface Started {
  readonly evaluationId: string;
  /** The run before was cut short; its evaluation, perhaps of an older commit, was given up. */
  readonly abandoned: boolean;
}

const ABORT_MS_MAX = 15_000;
const ABORT_POLL_MS = 100;
const PROJECTS = `/api/v1/projects/${ORGANIZATION}`;

/** Makes the project, or brings an older one up to date. Throws `QuickstartError` with the server's reason. */
export async function openProject(api: Api, source: Source, wildcard: string): Promise<void> {
  const { name, url } = source;
  const fields = { repository: url, wildcard };
  const project = await api.get<ProjectView>(`${PROJECTS}/${name}`).catch((error: unknown) => {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  });
  try {
    if (project === null) {
      await api.send("PUT", PROJECTS, { ...fields, name, display_name: name, description: "Made by quickstart" });
    } else if (project.repository !== url || project.wildcard !== wildcard) {
      await api.send("PATCH", `${PROJECTS}/${name}`, fields);
    }
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 400) throw error;
    throw new QuickstartError(`${source.description} cannot be a project: ${error.message}`, { cause: error });
  }
}

/** Evaluates the repository's HEAD. Throws `QuickstartError` when git cannot reach it. */
export async function startEvaluation(api: Api, { name, description }: Source, signal: AbortSignal): Promise<Started> {
  const path = `${PROJECTS}/${name}`;
  const abandoned = await abandonRunning(api, path, signal);
  try {
    const { headers } = await api.request<string>("POST", `${path}/evaluate`, {});
    const evaluationId = /([0-9a-f-]{36})$/.exec(headers.get("location") ?? "")?.[1];
    if (evaluationId) return { evaluationId, abandoned };
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 400) throw error;
    throw new QuickstartError(`${description} cannot be evaluated: ${error.message}`, { cause: error });
  }
  throw new QuickstartError("the server started an evaluation and did not say which: look at its log");
}

/** Whether there was one. */
async function abandonRunning(api: Api, path: string, signal: AbortSignal): Promise<boolean> {
  const newest = async () => (await api.get<EvaluationSummary[]>(`${path}/evaluations?limit=1`))[0];
  const running = await newest();
  if (!running || !isActive(running.status)) return false;
  await api.send("POST", `/api/v1/evals/${running.id}`, { method: "abort" });
  const deadline = performance.now() + ABORT_MS_MAX;
  while (performance.now() < deadline) {
    if (!isActive((await newest())?.status ?? "Aborted")) return true;
    await sleep(ABORT_POLL_MS, undefined, { signal });
  }
  throw new QuickstartError(
    `the evaluation ${running.id} of the last run does not end: start anew with --data DIR, and keep the old data ` +
      "folder for a report",
  );
}

/** Not ended. */
export function isActive(status: string): boolean {
  return !["Completed", "Failed", "Aborted"].includes(status);
}
