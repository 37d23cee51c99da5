import { parseStorePath, type StorePath } from "#core/nix/store-path.ts";
import { type AttributePath, attributeKey } from "./attribute-order.ts";
import type { Candidate } from "./discover.ts";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError, throwIfAborted, timedOut } from "./errors.ts";
import { makeEvaluatorHome, nixArguments, nixVariables, type ReadablePlaces } from "./evaluator-setup.ts";
import { type EvaluatorMessage, EvaluatorStderr } from "./evaluator-stderr.ts";
import { attributeSetExpression, type FlakeSource } from "./expressions.ts";
import { ProcessStartError, startProcess } from "./process.ts";

export interface EvalJobsOptions {
  /** The program, nix-eval-jobs 2.24 or later. */
  readonly command: string;
  readonly environment: EvaluationEnvironment;
  readonly readable: ReadablePlaces;
  readonly flake: FlakeSource;
  readonly deadline: number;
  onMessage(message: EvaluatorMessage): void;
}

export interface FoundDerivation {
  readonly attribute: AttributePath;
  readonly drvPath: StorePath;
}

/** As many as fit into one argument of a program. */
const ATTRIBUTES_MAX = 500;
const STDERR_BYTES_MAX = 512 * 1024 * 1024;
const MEMORY_MB_DEFAULT = 4_096;
const MEBIBYTE = 2 ** 20;

/**
 * Derivations by nix-eval-jobs, which evaluates on several cores with a process each. It is only believed where it
 * names a derivation: whatever else it says of an attribute, the attribute is left to the stock Nix, so that errors,
 * sets and what is missing are told in the same words by both. Throws `EvaluationError` for time and abort.
 */
export async function* evaluateJobs(
  candidates: readonly Candidate[],
  options: EvalJobsOptions,
): AsyncGenerator<readonly FoundDerivation[], readonly Candidate[]> {
  const found = new Set<string>();
  const asked = candidates.filter(({ isExcluded }) => !isExcluded);
  for (let start = 0; start < asked.length; start += ATTRIBUTES_MAX) {
    const part = asked.slice(start, start + ATTRIBUTES_MAX);
    for await (const one of runOnce(part, options)) {
      found.add(attributeKey(one.attribute));
      yield [one];
    }
  }
  return candidates.filter(({ attribute }) => !found.has(attributeKey(attribute)));
}

async function* runOnce(candidates: readonly Candidate[], options: EvalJobsOptions): AsyncGenerator<FoundDerivation> {
  const { environment, onMessage } = options;
  const waiting: FoundDerivation[] = [];
  let wake = Promise.withResolvers<void>();
  const stderr = new EvaluatorStderr({ onReport() {}, onMessage }, "no-mark", () => {});
  const running = await start(candidates, options, {
    onStderrLine: (line) => void stderr.read(line),
    onStdoutLine: (line) => {
      const one = readJob(line, candidates);
      if (one === null) return;
      waiting.push(one);
      wake.resolve();
    },
  });
  let hasEnded = false;
  const ended = running.ended.then((end) => {
    hasEnded = true;
    return end;
  });
  try {
    while (!hasEnded || waiting.length > 0) {
      yield* waiting.splice(0);
      wake = Promise.withResolvers();
      if (waiting.length === 0 && !hasEnded) await Promise.race([wake.promise, ended]);
    }
  } finally {
    running.stop("aborted");
  }
  const end = await ended;
  throwIfAborted(environment.signal);
  if (end.stopped === "timed_out") throw timedOut();
  if (end.code !== 0) {
    const reason =
      stderr.describeFailure((file) => file) ?? `it ended with ${end.signal ?? end.code}${stderr.plainText()}`;
    environment.log.warn("nix-eval-jobs did not finish; the stock Nix goes on", { reason });
  }
}

async function start(
  candidates: readonly Candidate[],
  { command, environment, readable, flake, deadline }: EvalJobsOptions,
  listeners: { readonly onStderrLine: (line: string) => void; readonly onStdoutLine: (line: string) => void },
) {
  const { evaluatorUser, evaluatorsMax, evaluatorMemoryBytesMax, signal } = environment;
  const home = await makeEvaluatorHome(environment);
  const memory = Math.floor((evaluatorMemoryBytesMax ?? MEMORY_MB_DEFAULT * MEBIBYTE) / MEBIBYTE);
  const expression = attributeSetExpression(
    flake,
    candidates.map(({ attribute }) => attribute),
  );
  try {
    return await startProcess({
      command,
      args: [
        ...["--workers", String(evaluatorsMax), "--max-memory-size", String(memory)],
        ...nixArguments(environment, home, readable),
        ...["--expr", expression],
      ],
      environment: nixVariables(environment, home),
      folder: home,
      user: evaluatorUser,
      timeoutMs: Math.max(1, deadline - performance.now()),
      signal,
      stdoutBytesMax: null,
      stderrBytesMax: STDERR_BYTES_MAX,
      ...listeners,
    });
  } catch (error) {
    if (!(error instanceof ProcessStartError)) throw error;
    const advice = "correct GRADIENT_BINPATH_NIX_EVAL_JOBS, or unset it";
    throw new EvaluationError("evaluator_unusable", `${error.message}: ${advice}`, { cause: error });
  }
}

/** A line of its standard output (its README, "Example"). Null for one that names no derivation of ours. */
function readJob(line: string, candidates: readonly Candidate[]): FoundDerivation | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { attrPath, drvPath, error } = value as Readonly<Record<string, unknown>>;
  if (!Array.isArray(attrPath) || attrPath.length !== 1 || typeof drvPath !== "string" || error !== undefined)
    return null;
  const index = /^i(\d{1,6})$/.exec(String(attrPath[0]))?.[1];
  const candidate = index === undefined ? undefined : candidates[Number(index)];
  const path = parseStorePath(drvPath);
  return candidate && path?.endsWith(".drv") ? { attribute: candidate.attribute, drvPath: path } : null;
}
