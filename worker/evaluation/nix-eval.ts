import { randomBytes } from "node:crypto";
import { chown, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError, throwIfAborted, timedOut } from "./errors.ts";
import { type EvaluatorListener, EvaluatorStderr } from "./evaluator-stderr.ts";
import { gitVariables } from "./git.ts";
import {
  type ProcessEnd,
  type ProcessOptions,
  ProcessStartError,
  type RunningProcess,
  startProcess,
} from "./process.ts";

/** How one evaluator ended. `message` is Nix's own words, or what we know when it had none. */
export type EvaluatorEnd =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: "error" | "crashed" | "stalled" | "memory"; readonly message: string };

export interface EvaluatorRun extends EvaluatorListener {
  /** The Nix expression. It reports by `say` (`expressions.ts`), under the mark given here. */
  readonly expression: (mark: string) => string;
  /** On the monotonic clock (`performance.now()`), as all deadlines here. */
  readonly deadline: number;
  /** Ends this run alone. */
  readonly signal?: AbortSignal;
}

const STDOUT_BYTES_MAX = 1024 * 1024;
const STDERR_BYTES_MAX = 512 * 1024 * 1024;
/** Linux takes no argument longer than 128 KiB (MAX_ARG_STRLEN). */
export const EXPRESSION_BYTES_MAX: number = 120_000;

/** Runs one Nix expression over one flake in a process of its own. */
export class NixEvaluator {
  readonly #environment: EvaluationEnvironment;
  readonly #repositoryFolder: string;
  /** Where the flake's files are, once an evaluator said so. */
  #sourcePath: string | null = null;
  #home: Promise<string> | null = null;

  constructor(environment: EvaluationEnvironment, repositoryFolder: string) {
    this.#environment = environment;
    this.#repositoryFolder = repositoryFolder;
  }

  /**
   * Throws `EvaluationError` when the evaluation was aborted or ran out of time, or when Nix cannot be started:
   * what no attribute is guilty of.
   */
  async run(run: EvaluatorRun): Promise<EvaluatorEnd> {
    throwIfAborted(this.#environment.signal);
    const mark = `gradient-${randomBytes(16).toString("hex")} `;
    this.#home ??= this.#makeHome();
    const home = await this.#home;
    const stderr = new EvaluatorStderr(run, mark, (report) => this.#takeNote(report));
    const process = await this.#start(home, run, mark, stderr);
    stderr.watch(process, this.#environment.attributeTimeoutMs);
    const end = await process.ended;
    stderr.stopWatching();
    if (stderr.thrown) throw stderr.thrown.error;
    return this.#judge(end, stderr);
  }

  async #start(home: string, run: EvaluatorRun, mark: string, stderr: EvaluatorStderr): Promise<RunningProcess> {
    const { nixCommand, evaluatorUser, signal, evaluatorMemoryBytesMax } = this.#environment;
    const options: ProcessOptions = {
      command: nixCommand,
      args: ["eval", "--json", "--expr", run.expression(mark), ...this.#arguments(home)],
      environment: this.#variables(home),
      folder: home,
      user: evaluatorUser,
      timeoutMs: Math.max(1, run.deadline - performance.now()),
      signal: run.signal ? AbortSignal.any([signal, run.signal]) : signal,
      stdoutBytesMax: STDOUT_BYTES_MAX,
      stderrBytesMax: STDERR_BYTES_MAX,
      memoryBytesMax: evaluatorMemoryBytesMax,
      onStderrLine: (line) => stderr.read(line),
    };
    try {
      return await startProcess(options);
    } catch (error) {
      if (!(error instanceof ProcessStartError)) throw error;
      throw new EvaluationError("evaluator_unusable", `${error.message}: install Nix 2.8 or later on the worker`, {
        cause: error,
      });
    }
  }

  #arguments(home: string): string[] {
    const { allowLocalSources, allowImportFromDerivation, extraNixOptions } = this.#environment;
    const options: (readonly [string, string])[] = [
      ...extraNixOptions,
      ["eval-cache", "false"],
      ["pure-eval", "true"],
      ["accept-flake-config", "false"],
      // Nix 2.8 takes no empty value here.
      ["flake-registry", join(home, "registry.json")],
      ["allow-import-from-derivation", String(allowImportFromDerivation)],
    ];
    if (!allowLocalSources) {
      options.push(["restrict-eval", "true"], ["allowed-uris", allowedUris(this.#repositoryFolder)]);
    }
    return [
      ...["--extra-experimental-features", "nix-command flakes", "--log-format", "internal-json"],
      ...options.flatMap(([name, value]) => ["--option", name, value]),
    ];
  }

  #variables(home: string): Record<string, string> {
    const { variables, nixRemote } = this.#environment;
    return {
      ...variables,
      ...gitVariables(this.#environment),
      HOME: home,
      XDG_CACHE_HOME: join(home, ".cache"),
      XDG_CONFIG_HOME: join(home, ".config"),
      NIX_USER_CONF_FILES: "",
      NIX_REMOTE: nixRemote,
    };
  }

  async #makeHome(): Promise<string> {
    const { dataDir, evaluatorUser } = this.#environment;
    const home = join(dataDir, "evaluator-home");
    await mkdir(home, { recursive: true });
    await writeFile(join(home, "registry.json"), '{"version":2,"flakes":[]}\n');
    // The repositories belong to the worker. Newer versions of Nix read them by libgit2, which asks this file alone.
    await writeFile(join(home, ".gitconfig"), "[safe]\n\tdirectory = *\n");
    // Only these are the evaluator's own: what the worker writes above must not be a link that an evaluator left.
    for (const name of [".cache", ".local"]) {
      await mkdir(join(home, name), { recursive: true });
      if (evaluatorUser) await chown(join(home, name), evaluatorUser.uid, evaluatorUser.gid);
    }
    return home;
  }

  #takeNote(report: Readonly<Record<string, unknown>>): void {
    if (typeof report.source === "string") this.#sourcePath = report.source;
  }

  #judge(end: ProcessEnd, stderr: EvaluatorStderr): EvaluatorEnd {
    if (end.stopped === "aborted") throw new EvaluationError("aborted", "the evaluation was aborted");
    if (end.stopped === "timed_out") throw timedOut();
    if (end.stopped === "stalled") {
      const seconds = Math.round(this.#environment.attributeTimeoutMs / 1000);
      return { ok: false, reason: "stalled", message: `it did not evaluate within ${seconds} seconds` };
    }
    if (end.stopped === "too_much_memory") {
      return { ok: false, reason: "memory", message: "its evaluation needs more memory than the worker allows" };
    }
    if (end.stopped !== null) {
      return { ok: false, reason: "error", message: "its evaluation writes more messages than the worker accepts" };
    }
    if (end.code === 0) return { ok: true };
    const message = stderr.describeFailure((file) => this.#place(file));
    if (message !== null) return { ok: false, reason: "error", message };
    const how = end.signal ? `ended by ${end.signal}` : `exit code ${end.code}`;
    return { ok: false, reason: "crashed", message: `the evaluator crashed (${how})${stderr.plainText()}` };
  }

  /** Files of the flake lose the folder they happen to be in; files of inputs keep the name of their store path. */
  #place(file: string): string {
    const { storeRoot } = this.#environment;
    const logical = storeRoot !== "" && file.startsWith(`${storeRoot}/`) ? file.slice(storeRoot.length) : file;
    if (this.#sourcePath !== null && logical.startsWith(`${this.#sourcePath}/`)) {
      return logical.slice(this.#sourcePath.length + 1);
    }
    // Before the flake has said where it is, only its own flake.nix was read.
    if (this.#sourcePath === null && /^\/nix\/store\/[^/]+-source\/flake\.nix$/.test(logical)) return "flake.nix";
    return logical.replace(`«git+file://${this.#repositoryFolder}`, "«").replace(/^«\?[^»]*»\//, "");
  }
}

/** Nix compares prefixes that end in a slash or are the whole, and newer versions whole schemes. */
function allowedUris(repositoryFolder: string): string {
  const schemes = ["https://", "http://", "ssh://", "git+https://", "git+http://", "git+ssh://", "tarball+https://"];
  const forges = ["tarball+http://", "file+https://", "file+http://", "github:", "gitlab:", "sourcehut:"];
  return [...schemes, ...forges, `git+file://${repositoryFolder}`].join(" ");
}
