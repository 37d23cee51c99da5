import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError, throwIfAborted, timedOut } from "./errors.ts";
import { makeEvaluatorHome, nixArguments, nixVariables, type ReadablePlaces } from "./evaluator-setup.ts";
import { EvaluatorStderr } from "./evaluator-stderr.ts";
import { ProcessStartError, runProcess } from "./process.ts";

export type NixAnswer =
  | { readonly ok: true; readonly stdout: string }
  /** Nix's own words. */
  | { readonly ok: false; readonly message: string };

export interface NixCommand {
  readonly args: readonly string[];
  readonly readable: ReadablePlaces;
  /** On the monotonic clock. */
  readonly deadline: number;
}

const STDOUT_BYTES_MAX = 64 * 1024 * 1024;
const STDERR_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Runs one command of Nix as the evaluator. A command that fails is an answer; time and abort are `EvaluationError`.
 */
export async function runNixCommand(environment: EvaluationEnvironment, command: NixCommand): Promise<NixAnswer> {
  const home = await makeEvaluatorHome(environment);
  const stderr = new EvaluatorStderr({ onReport() {}, onMessage() {} }, "no-mark", () => {});
  const run = runProcess({
    command: environment.nixCommand,
    args: [...command.args, ...nixArguments(environment, home, command.readable)],
    environment: nixVariables(environment, home),
    folder: home,
    user: environment.evaluatorUser,
    timeoutMs: Math.max(1, command.deadline - performance.now()),
    signal: environment.signal,
    stdoutBytesMax: STDOUT_BYTES_MAX,
    stderrBytesMax: STDERR_BYTES_MAX,
    memoryBytesMax: environment.evaluatorMemoryBytesMax,
    onStderrLine: (line) => void stderr.read(line),
  });
  const end = await run.catch((error: unknown) => {
    if (!(error instanceof ProcessStartError)) throw error;
    throw new EvaluationError("evaluator_unusable", `${error.message}: install Nix 2.8 or later on the worker`, {
      cause: error,
    });
  });
  throwIfAborted(environment.signal);
  if (end.stopped === "timed_out") throw timedOut();
  if (end.code === 0 && end.stopped === null) return { ok: true, stdout: end.stdout };
  const words =
    stderr.describeFailure((file) => file) ?? `nix ended with ${end.signal ?? end.code}${stderr.plainText()}`;
  return { ok: false, message: words };
}

/** The same for an answer in JSON. Throws `EvaluationError` with Nix's words. */
export async function askNix(environment: EvaluationEnvironment, command: NixCommand): Promise<unknown> {
  const answer = await runNixCommand(environment, command);
  if (!answer.ok) throw new EvaluationError("flake_broken", answer.message);
  try {
    return JSON.parse(answer.stdout) as unknown;
  } catch (cause) {
    throw new EvaluationError("evaluator_unusable", "nix gave an answer that is no JSON", { cause });
  }
}
