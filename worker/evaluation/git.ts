import { join } from "node:path";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError, throwIfAborted } from "./errors.ts";
import { type ProcessEnd, type ProcessOptions, ProcessStartError, startProcess } from "./process.ts";

/** What a git command ended with. */
export interface GitResult {
  readonly ok: boolean;
  readonly stdout: string;
  /** Standard output as it came. */
  readonly stdoutBytes: Buffer;
  /** The last lines of standard error, without credentials. */
  readonly words: string;
  readonly end: ProcessEnd;
}

export interface GitOptions {
  readonly folder: string;
  readonly timeoutMs: number;
  readonly stdoutBytesMax?: number;
  readonly input?: string;
  /** Looked at every second; the command is killed when it answers true. */
  readonly isTooLarge?: () => Promise<boolean>;
}

const STDOUT_BYTES_MAX = 1024 * 1024;
const STDERR_BYTES_MAX = 16 * 1024 * 1024;
const WORDS_LINES_MAX = 6;
const SIZE_POLL_MS = 1_000;

const CONFIGURATION: readonly (readonly [string, string])[] = [
  // An evaluator that runs as another user reads repositories that belong to the worker.
  ["safe.directory", "*"],
  // What tidies up behind a fetch of Nix's would leave its group, and with it all limits.
  ["gc.autoDetach", "false"],
  ["maintenance.autoDetach", "false"],
];

/**
 * Variables under which git asks nobody, reads nobody's configuration and speaks only the transports allowed here.
 * `learnedHosts` is a file of the user that git runs as.
 */
export function gitVariables(environment: EvaluationEnvironment, learnedHosts: string): Record<string, string> {
  const { allowLocalSources } = environment;
  return {
    GIT_ALLOW_PROTOCOL: allowLocalSources ? "https:http:ssh:file" : "https:http:ssh",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_SYSTEM: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
    GIT_ASKPASS: "",
    ...configurationVariables(CONFIGURATION),
    GIT_SSH_COMMAND: sshCommand(environment, learnedHosts),
    LC_ALL: "C",
  };
}

/** git-config(1), "GIT_CONFIG_COUNT". */
function configurationVariables(settings: readonly (readonly [string, string])[]): Record<string, string> {
  const named = settings.flatMap(([key, value], index) => [
    [`GIT_CONFIG_KEY_${index}`, key],
    [`GIT_CONFIG_VALUE_${index}`, value],
  ]);
  return { GIT_CONFIG_COUNT: String(settings.length), ...Object.fromEntries(named) };
}

/**
 * ssh uses the organization's key and no other: not those of the user the worker runs as. Without a list of the
 * operator's, a host's key is learned at the first connection, for each organization by itself, and another key is
 * refused ever after.
 */
function sshCommand(environment: EvaluationEnvironment, learnedHosts: string): string {
  const { sshProgram, sshAgentSocket, sshKnownHostsFile, dataDir } = environment;
  const learned = [learnedHosts, join(dataDir, "known_hosts")];
  const hosts = sshKnownHostsFile === null ? learned : [sshKnownHostsFile];
  const options = [
    "BatchMode=yes",
    `StrictHostKeyChecking=${sshKnownHostsFile === null ? "accept-new" : "yes"}`,
    `UserKnownHostsFile=${hosts.map((file) => `"${file.replaceAll("%", "%%")}"`).join(" ")}`,
    `IdentityAgent=${sshAgentSocket ?? "none"}`,
    "IdentityFile=none",
  ];
  return [shellQuote(sshProgram), "-F none", ...options.map((option) => `-o ${shellQuote(option)}`)].join(" ");
}

/** Runs git. A command that fails is an answer; being aborted or out of time is an `EvaluationError`. */
export async function runGit(
  environment: EvaluationEnvironment,
  args: readonly string[],
  options: GitOptions,
): Promise<GitResult> {
  const lines: string[] = [];
  const running = await startProcess(processOptions(environment, args, options, lines)).catch((error: unknown) => {
    if (!(error instanceof ProcessStartError)) throw error;
    throw new EvaluationError("evaluator_unusable", `${error.message}: install git on the worker`, { cause: error });
  });
  if (options.input !== undefined) running.input?.end(options.input);
  let tooLarge = false;
  const poll = setInterval(() => {
    void options.isTooLarge?.().then((answer) => {
      if (!answer) return;
      tooLarge = true;
      running.stop("too_much_output");
    });
  }, SIZE_POLL_MS);
  const end = await running.ended;
  clearInterval(poll);

  throwIfAborted(environment.signal);
  if (tooLarge || (await options.isTooLarge?.())) {
    throw new EvaluationError(
      "repository_too_large",
      "the repository is larger than this worker accepts: raise the worker's limit, or make the history smaller",
    );
  }
  if (end.stopped === "timed_out") {
    throw new EvaluationError("timed_out", `git did not finish within ${Math.round(options.timeoutMs / 1000)} seconds`);
  }
  return {
    ok: end.code === 0,
    stdout: end.stdout,
    stdoutBytes: end.stdoutBytes,
    words: withoutCredentials(lines.join("\n")),
    end,
  };
}

/** User names and passwords in URLs become nothing. */
export function withoutCredentials(text: string): string {
  return text.replace(/([a-zA-Z][a-zA-Z0-9+.-]*:\/\/)[^/\s@]*@/g, "$1");
}

function processOptions(
  environment: EvaluationEnvironment,
  args: readonly string[],
  options: GitOptions,
  lines: string[],
): ProcessOptions {
  return {
    command: environment.gitCommand,
    args,
    environment: {
      ...environment.variables,
      HOME: options.folder,
      ...gitVariables(environment, join(environment.dataDir, "known_hosts")),
    },
    folder: options.folder,
    timeoutMs: options.timeoutMs,
    signal: environment.signal,
    hasInput: options.input !== undefined,
    stdoutBytesMax: options.stdoutBytesMax ?? STDOUT_BYTES_MAX,
    stderrBytesMax: STDERR_BYTES_MAX,
    onStderrLine: (line) => {
      lines.push(line.slice(0, 1_000));
      if (lines.length > WORDS_LINES_MAX) lines.shift();
    },
  };
}

function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
