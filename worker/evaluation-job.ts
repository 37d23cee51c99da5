import type { StorePath } from "#core/nix/store-path.ts";
import type { EvaluationJob } from "#core/protocol/server-messages.ts";
import type { EvaluationResult } from "#core/protocol/worker-messages.ts";
import type { EvaluationEnvironment } from "./evaluation/environment.ts";
import { evaluate } from "./evaluation/evaluate.ts";
import type { KnownQuestion } from "./evaluation/walk.ts";
import { AttemptEndedError, type AttemptLink, BatchRefusedError, UploadRefusedError } from "./link.ts";

export interface EvaluationJobEnvironment extends Omit<EvaluationEnvironment, "signal"> {
  /** Brings these paths, with everything they refer to, into the organization's internal store. */
  readonly uploadSources: (paths: readonly StorePath[], link: AttemptLink) => Promise<void>;
}

const MESSAGE_LENGTH_MAX = 8_000;

/**
 * Runs an evaluation and reports what it finds as it is found. Every way to fail is a result; `AttemptEndedError` is
 * thrown when the attempt ended meanwhile.
 */
export async function runEvaluation(
  job: EvaluationJob,
  link: AttemptLink,
  environment: EvaluationJobEnvironment,
): Promise<EvaluationResult> {
  try {
    const outcome = await evaluate(
      {
        repository: job.repository,
        commit: job.commit,
        wildcard: job.wildcard,
        timeoutMs: job.timeout_ms,
        maxAttributes: job.attributes_max,
        maxDerivations: job.derivations_max,
      },
      { ...environment, signal: link.signal },
      {
        phase: (phase) => link.phase(phase),
        commitInfo: ({ message, authorName }) =>
          link.phase("fetching", { message: message.slice(0, 1024), author: authorName.slice(0, 256) }),
        message: (message) => link.message(message),
        known: (questions) => askKnown(link, questions),
        sources: (paths) => environment.uploadSources(paths, link),
        batch: ({ nodes, entryPoints }) => link.sendBatch({ nodes, entryPoints }),
      },
    );
    link.signal.throwIfAborted();
    return outcome.outcome === "completed" ? completed() : failed("permanent", outcome.message);
  } catch (error) {
    if (link.signal.aborted) throw link.signal.reason;
    if (error instanceof AttemptEndedError) throw error;
    environment.log.error("an evaluation could not be reported", { evaluation: job.evaluation, error });
    const refused = error instanceof BatchRefusedError || error instanceof UploadRefusedError;
    const message = error instanceof Error ? error.message : String(error);
    return failed(refused ? "permanent" : "transient", message);
  }
}

/** What has no path before its build cannot be there. */
async function askKnown(link: AttemptLink, questions: readonly KnownQuestion[]): Promise<boolean[]> {
  const asked = questions.filter(({ outputs }) => outputs.every(({ path }) => path !== null));
  if (asked.length === 0) return questions.map(() => false);
  const answers = await link.queryDerivations(
    asked.map(({ drvPath, outputs }) => ({ drvPath, outputs: outputs.flatMap(({ path }) => path ?? []) })),
  );
  const known = new Set(asked.filter((_, i) => answers[i]).map(({ drvPath }) => drvPath));
  return questions.map(({ drvPath }) => known.has(drvPath));
}

function completed(): EvaluationResult {
  return { kind: "evaluation", status: "completed", failure: null };
}

function failed(failureClass: "permanent" | "transient", message: string): EvaluationResult {
  const failure = { class: failureClass, message: message.slice(0, MESSAGE_LENGTH_MAX) };
  return { kind: "evaluation", status: "failed", failure };
}
