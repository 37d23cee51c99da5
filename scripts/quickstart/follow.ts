import { setTimeout as sleep } from "node:timers/promises";
import type { BuildView } from "#core/api/builds.ts";
import type {
  EvaluationBuildItem,
  EvaluationBuilds,
  EvaluationMessage,
  EvaluationView,
} from "#core/api/evaluations.ts";
import type { Api } from "./api.ts";
import { isFailed, Narrator } from "./narrator.ts";
import type { Output } from "./output.ts";
import { isActive } from "./project.ts";

export interface EvaluationEnd {
  readonly evaluation: EvaluationView;
  readonly builds: readonly EvaluationBuildItem[];
  /** How many builds were given up because no worker here can build for their systems. */
  readonly foreign: number;
}

export interface FollowOptions {
  /** What this machine's worker builds. */
  readonly systems: readonly string[];
  readonly signal: AbortSignal;
}

const POLL_MS = 300;
/** A list of many builds is asked for less often. */
const POLL_MS_LARGE = 3_000;
const LARGE_BUILDS = 1_000;
/** So long nothing has to move before it is asked why. */
const STALL_MS = 5_000;
const STALLED_BUILDS_MAX = 200;
const LOG_LINES = 20;

/** Tells what happens as it happens, until the evaluation has ended. */
export async function followEvaluation(
  api: Api,
  evaluationId: string,
  output: Output,
  options: FollowOptions,
): Promise<EvaluationEnd> {
  const { signal } = options;
  const path = `/api/v1/evals/${evaluationId}`;
  const narrator = new Narrator(output, (id) => failureDetails(api, id));
  let movedAtMs = performance.now();
  for (;;) {
    const evaluation = await api.get<EvaluationView>(path);
    const { builds } = await api.get<EvaluationBuilds>(`${path}/builds`);
    if (await narrator.tell(evaluation, builds)) movedAtMs = performance.now();
    await narrator.tellMessages(await api.get<EvaluationMessage[]>(`${path}/messages`));
    if (!isActive(evaluation.status)) return { evaluation, builds, foreign: 0 };

    if (performance.now() - movedAtMs > STALL_MS) {
      const foreign = await findForeign(api, evaluation, builds, options.systems);
      if (foreign.length > 0) return await giveUpForeign(api, path, output, foreign);
      movedAtMs = performance.now();
    }
    await sleep(builds.length > LARGE_BUILDS ? POLL_MS_LARGE : POLL_MS, undefined, { signal });
  }
}

/** All that is left, if none of it can be built here: their systems. Else none. */
async function findForeign(
  api: Api,
  { status }: EvaluationView,
  builds: readonly EvaluationBuildItem[],
  systems: readonly string[],
): Promise<string[]> {
  const open = builds.filter((build) => ["Created", "Queued", "Building", "FailedTransient"].includes(build.status));
  if (!["Building", "Waiting"].includes(status) || open.length === 0 || open.length > STALLED_BUILDS_MAX) return [];
  if (open.some((build) => build.status === "Building")) return [];
  const architectures: string[] = [];
  for (const { id } of open) {
    const { architecture } = await api.get<BuildView>(`/api/v1/builds/${id}`);
    if (architecture === "builtin" || systems.includes(architecture)) return [];
    architectures.push(architecture);
  }
  return architectures;
}

async function giveUpForeign(
  api: Api,
  path: string,
  output: Output,
  architectures: readonly string[],
): Promise<EvaluationEnd> {
  const systems = [...new Set(architectures)].sort().join(", ");
  output.line("left out", `${architectures.length} builds for ${systems}: no worker here builds for that`);
  await api.send("POST", path, { method: "abort" });
  const evaluation = await api.get<EvaluationView>(path);
  const { builds } = await api.get<EvaluationBuilds>(`${path}/builds`);
  return { evaluation, builds, foreign: architectures.length };
}

async function failureDetails(api: Api, buildId: string): Promise<string[]> {
  const log = await api.get<string>(`/api/v1/builds/${buildId}/log`).catch(() => "");
  return log.trimEnd().split("\n").slice(-LOG_LINES);
}

/** Everything that this machine could build was built, and every attribute was evaluated. */
export function isSuccess({ evaluation, builds, foreign }: EvaluationEnd): boolean {
  const ended = evaluation.status === "Completed" || (evaluation.status === "Aborted" && foreign > 0);
  return ended && evaluation.error_count === 0 && !builds.some((build) => isFailed(build.status));
}
