import type { EvaluationBuildItem, EvaluationMessage, EvaluationView } from "#core/api/evaluations.ts";
import { count, formatDuration, type Output } from "./output.ts";

const PHASES: Readonly<Record<string, string>> = {
  Queued: "waiting for the worker",
  Fetching: "fetching the repository",
  EvaluatingFlake: "reading the flake",
  EvaluatingDerivation: "finding out what is to be built",
};
/** By the kind of what is waited for. */
const REASONS: Readonly<Record<string, string>> = {
  workers: "no connected worker builds for what is left",
  eval_workers: "no connected worker evaluates",
  no_cache: "the organization has no cache to write to",
  cache_storage_full: "the cache is full",
  approval: "somebody has to approve it",
  draining: "the server is stopping",
  aborting: "it is being given up",
  graph_stuck: "something it needs was lost and is looked for",
};
const ERROR_LINES_MAX = 12;

/** Turns what the API shows from time to time into lines, each thing once. */
export class Narrator {
  readonly #output: Output;
  readonly #failureDetails: (buildId: string) => Promise<string[]>;
  readonly #statuses = new Map<string, string>();
  readonly #messages = new Set<string>();
  #phase = "";

  constructor(output: Output, failureDetails: (buildId: string) => Promise<string[]>) {
    this.#output = output;
    this.#failureDetails = failureDetails;
  }

  /** Whether there was anything new. */
  async tell(evaluation: EvaluationView, builds: readonly EvaluationBuildItem[]): Promise<boolean> {
    let isNew = this.#tellPhase(evaluation);
    // Ends come first: what a build waited for has ended before it began.
    const changed = builds
      .filter((build) => this.#statuses.get(build.id) !== build.status)
      .sort((a, b) => order(a) - order(b) || a.updated_at.localeCompare(b.updated_at));
    for (const build of changed) {
      this.#statuses.set(build.id, build.status);
      // A build that an earlier evaluation made is shared, not made again.
      await this.#tellBuild(build, build.updated_at < evaluation.created_at);
      isNew = true;
    }
    return isNew;
  }

  async tellMessages(messages: readonly EvaluationMessage[]): Promise<void> {
    for (const { id, level, message, entry_points } of messages) {
      if (this.#messages.has(id)) continue;
      this.#messages.add(id);
      const where = entry_points.length > 0 ? `${entry_points.join(", ")}: ` : "";
      const [first = "", ...rest] = `${where}${message}`.split("\n");
      if (level === "Error") this.#output.bad("error", first);
      else this.#output.line(level.toLowerCase(), first);
      for (const line of rest.slice(0, ERROR_LINES_MAX)) this.#output.detail(line);
    }
  }

  #tellPhase({ status, waiting_reason }: EvaluationView): boolean {
    const reason = waiting_reason?.kind;
    const words =
      status === "Waiting" ? (REASONS[reason ?? ""] ?? reason ?? "the server does not say why") : PHASES[status];
    if (words === undefined || words === this.#phase) return false;
    this.#phase = words;
    this.#output.line(status === "Waiting" ? "waiting" : "evaluating", words);
    return true;
  }

  async #tellBuild(build: EvaluationBuildItem, isOld: boolean): Promise<void> {
    const name = buildName(build.name);
    const time = build.build_time_ms === null ? "" : ` in ${formatDuration(build.build_time_ms)}`;
    switch (build.status) {
      case "Building":
        return this.#output.line("building", name);
      case "Completed":
        if (!isOld) return this.#output.good("built", `${name}${time}`);
        return this.#output.good("there", `${name} (built by an earlier run)`);
      case "Substituted":
        return this.#output.good("there", `${name} (nothing to build)`);
      case "FailedTransient":
        return this.#output.line("again", `${name} failed for a reason that may pass, and is tried again`);
      case "DependencyFailed":
        return this.#output.bad("not built", `${name}: something it needs failed`);
      case "FailedPermanent":
      case "FailedTimeout":
        this.#output.bad("FAILED", `${name}${build.status === "FailedTimeout" ? " ran out of time" : ""}${time}`);
        for (const line of await this.#failureDetails(build.id)) this.#output.detail(line);
        return;
      default:
        return;
    }
  }
}

function order({ status }: EvaluationBuildItem): number {
  return status === "Building" ? 1 : 0;
}

/** `lib-1.0` of `0c1m…-lib-1.0.drv`. */
export function buildName(derivation: string): string {
  return derivation.replace(/^[0-9a-z]{32}-/, "").replace(/\.drv$/, "");
}

export function isFailed(status: string): boolean {
  return ["FailedPermanent", "FailedTimeout", "DependencyFailed"].includes(status);
}

/** How many builds have each status. */
export function countByStatus(builds: readonly EvaluationBuildItem[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status } of builds) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

export function describeCounts(builds: readonly EvaluationBuildItem[]): string {
  const words: Readonly<Record<string, string>> = {
    Completed: "built",
    Substituted: "there already",
    FailedPermanent: "failed",
    FailedTimeout: "out of time",
    DependencyFailed: "not built because of those",
    Aborted: "given up",
  };
  const parts = Object.entries(countByStatus(builds)).map(([status, number]) => `${number} ${words[status] ?? status}`);
  return `${count(builds.length, "build")}${parts.length > 0 ? `: ${parts.join(", ")}` : ""}`;
}
