import type { StorePath } from "#core/nix/store-path.ts";
import type { EvaluationJob } from "#core/protocol/server-messages.ts";
import type { EvaluationResult } from "#core/protocol/worker-messages.ts";
import { BuildFailure } from "./build/failure.ts";
import type { EvaluationEnvironment } from "./evaluation/environment.ts";
import { EvaluationError } from "./evaluation/errors.ts";
import { type EvaluationSink, evaluate, fetchFlake } from "./evaluation/evaluate.ts";
import type { HeldKey } from "./evaluation/ssh-agent.ts";
import type { KnownQuestion } from "./evaluation/walk-node.ts";
import {
  AttemptEndedError,
  type AttemptLink,
  BatchRefusedError,
  type DerivationQuestion,
  UploadRefusedError,
} from "./link.ts";
import { reportAgain } from "./report-again.ts";

export interface EvaluationJobEnvironment extends Omit<EvaluationEnvironment, "signal"> {
  /** Brings these paths, with everything they refer to, into the organization's internal store. */
  readonly uploadSources: (paths: readonly StorePath[]) => Promise<void>;
  /** Makes paths of the organization's internal store valid here. Throws `BuildFailure` for those it has not. */
  readonly takeSources: (paths: readonly StorePath[]) => Promise<void>;
  /** Lets git and Nix use a private key for a while. */
  readonly holdKey: (secretKey: string) => Promise<HeldKey>;
}

const MESSAGE_LENGTH_MAX = 8_000;

/**
 * Runs an evaluation, or the fetch before one, and reports what it finds as it is found. Every way to fail is a result;
 * `AttemptEndedError` is thrown when the attempt ended meanwhile.
 */
export async function runEvaluation(
  job: EvaluationJob,
  link: AttemptLink,
  environment: EvaluationJobEnvironment,
): Promise<EvaluationResult> {
  // Whoever is trusted in this store could be met here by what a stranger proposed.
  if (!job.trusted)
    return failed("permanent", "this worker has no place that it could keep an untrusted flake apart in");
  try {
    await using key = job.ssh_key === null ? null : await environment.holdKey(job.ssh_key);
    const prepared = { ...environment, sshAgentSocket: key?.socketPath ?? null, signal: link.signal };
    const sink = sinkOf(link, environment);
    const result = job.part === "fetch" ? await fetchOnly(job, prepared, sink) : await evaluateIt(job, prepared, sink);
    link.signal.throwIfAborted();
    return result;
  } catch (error) {
    if (link.signal.aborted) throw link.signal.reason;
    if (error instanceof AttemptEndedError) throw error;
    if (error instanceof EvaluationError) return failed("permanent", error.message);
    if (error instanceof BuildFailure) return failed(error.failureClass, error.message);
    environment.log.error("an evaluation could not be reported", { evaluation: job.evaluation, error });
    const refused = error instanceof BatchRefusedError || error instanceof UploadRefusedError;
    const message = error instanceof Error ? error.message : String(error);
    return failed(refused ? "permanent" : "transient", message);
  }
}

type Prepared = EvaluationEnvironment & EvaluationJobEnvironment;

async function evaluateIt(job: EvaluationJob, prepared: Prepared, sink: EvaluationSink): Promise<EvaluationResult> {
  const { source } = job;
  const deadline = performance.now() + job.timeout_ms;
  const once = sinkOnce(sink);
  const outcome = await reportAgain(() =>
    evaluate(
      {
        repository: job.repository,
        commit: job.commit,
        wildcard: job.wildcard,
        overrides: job.overrides,
        stored: source && { flakeReference: source.reference, isWrapped: source.wrapped, paths: source.paths },
        timeoutMs: Math.max(1, deadline - performance.now()),
        maxAttributes: job.attributes_max,
        maxDerivations: job.derivations_max,
        maxMessages: job.messages_max,
      },
      prepared,
      once,
    ),
  );
  return outcome.outcome === "completed" ? completed() : failed("permanent", outcome.message);
}

async function fetchOnly(job: EvaluationJob, prepared: Prepared, sink: EvaluationSink): Promise<EvaluationResult> {
  const { repository, commit, overrides, timeout_ms: timeoutMs } = job;
  const outcome = await fetchFlake({ repository, commit, overrides, timeoutMs }, prepared, sink);
  if (outcome.outcome === "failed") return failed("permanent", outcome.message);
  const { flakeReference: reference, isWrapped: wrapped, paths } = outcome.stored;
  await prepared.uploadSources(paths);
  return { ...completed(), source: { reference, wrapped, paths: [...paths] } };
}

/** Of an evaluation that is done again, messages are told once. */
function sinkOnce(sink: EvaluationSink): EvaluationSink {
  const told = new Set<string>();
  return {
    ...sink,
    message(message) {
      const key = JSON.stringify(message);
      if (told.has(key)) return;
      told.add(key);
      sink.message(message);
    },
  };
}

function sinkOf(link: AttemptLink, environment: EvaluationJobEnvironment): EvaluationSink {
  return {
    phase: (phase) => link.phase(phase),
    commitInfo: ({ message, authorName }, inputs) =>
      link.phase("fetching", {
        message: message.slice(0, 1024),
        author: authorName.slice(0, 256),
        ...(inputs && { inputs }),
      }),
    message: (message) => link.message(message),
    takeStored: (paths) => environment.takeSources(paths),
    known: (questions) => askKnown(link, questions),
    sources: (paths) => environment.uploadSources(paths),
    batch: ({ nodes, entryPoints }) => link.sendBatch({ nodes, entryPoints }),
  };
}

/** What has no path, and nothing by which a cache could know it, cannot be there. */
async function askKnown(link: AttemptLink, questions: readonly KnownQuestion[]): Promise<boolean[]> {
  const asked = questions.filter(({ outputs, realisationHash }) => {
    return realisationHash !== undefined || outputs.every(({ path }) => path !== null);
  });
  if (asked.length === 0) return questions.map(() => false);
  const answers = await link.queryDerivations(asked.map(questionOf));
  const known = new Set(asked.filter((_, i) => answers[i]).map(({ drvPath }) => drvPath));
  return questions.map(({ drvPath }) => known.has(drvPath));
}

function questionOf({ drvPath, outputs, realisationHash: hash }: KnownQuestion): DerivationQuestion {
  const unnamed = outputs.filter(({ path }) => path === null);
  return {
    drvPath,
    outputs: outputs.flatMap(({ path }) => path ?? []),
    ...(hash !== undefined && { realisations: unnamed.map(({ name: output }) => ({ hash, output })) }),
  };
}

function completed(): EvaluationResult {
  return { kind: "evaluation", status: "completed", failure: null };
}

type FailureClass = NonNullable<EvaluationResult["failure"]>["class"];

function failed(failureClass: FailureClass, message: string): EvaluationResult {
  const failure = { class: failureClass, message: message.slice(0, MESSAGE_LENGTH_MAX) };
  return { kind: "evaluation", status: "failed", failure };
}
