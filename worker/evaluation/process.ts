import { type ChildProcess, spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { assert } from "#core/lib/assert.ts";
import { LineSplitter } from "./line-splitter.ts";

/** Why a process was ended by us. */
export type StopReason = "aborted" | "timed_out" | "stalled" | "too_much_output" | "too_much_memory";

export interface ProcessEnd {
  /** Null when a signal ended the process. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Null when the process ended by itself. */
  readonly stopped: StopReason | null;
  readonly stdout: string;
}

export interface ProcessOptions {
  readonly command: string;
  readonly args: readonly string[];
  /** The whole environment: nothing is inherited. PATH in it finds `command`. */
  readonly environment: Readonly<Record<string, string>>;
  readonly folder: string;
  /** Another user to run as; only root may. */
  readonly user?: ProcessUser | null;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly stdoutBytesMax: number;
  readonly stderrBytesMax: number;
  /** Resident memory of the process, looked at twice a second. Null: no limit. */
  readonly memoryBytesMax?: number | null;
  /** Each line of standard error, without its end. A line beyond the splitter's limit is cut. */
  onStderrLine?(line: string): void;
}

export interface ProcessUser {
  readonly uid: number;
  readonly gid: number;
}

export interface RunningProcess {
  /** Never rejects. */
  readonly ended: Promise<ProcessEnd>;
  /** Kills the process and all its children. The first reason given is the one reported. */
  stop(reason: StopReason): void;
}

/** The command could not be started: it is missing, or its arguments are too long. */
export class ProcessStartError extends Error {
  override readonly name = "ProcessStartError";
}

const MEMORY_POLL_MS = 500;
/** The kernel's choice when memory runs out: an evaluator before the worker (lesson of many worker deaths). */
const OOM_SCORE_ADJUSTMENT = "600";

/** Starts a process in a process group of its own, which never outlives it. Throws `ProcessStartError`. */
export async function startProcess(options: ProcessOptions): Promise<RunningProcess> {
  const child = await spawnGroup(options);
  const pid = child.pid as number;
  let stopped: StopReason | null = null;
  const stop = (reason: StopReason) => {
    stopped ??= reason;
    killGroup(pid);
  };

  const timer = setTimeout(() => stop("timed_out"), options.timeoutMs);
  const watch = watchMemory(pid, options.memoryBytesMax ?? null, () => stop("too_much_memory"));
  const abort = () => stop("aborted");
  options.signal?.addEventListener("abort", abort, { once: true });
  if (options.signal?.aborted) abort();
  const stdout = collectStdout(child, options.stdoutBytesMax, () => stop("too_much_output"));
  const flushStderr = readStderr(child, options, () => stop("too_much_output"));

  const ended = new Promise<ProcessEnd>((resolve) => {
    // What the process left behind would keep its pipes open for ever.
    child.once("exit", () => killGroup(pid));
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      clearInterval(watch);
      options.signal?.removeEventListener("abort", abort);
      flushStderr();
      resolve({ code, signal, stopped, stdout: stdout() });
    });
  });
  return { ended, stop };
}

/** Runs a process to its end. */
export async function runProcess(options: ProcessOptions): Promise<ProcessEnd> {
  return await (await startProcess(options)).ended;
}

function spawnGroup({ command, args, environment, folder, user }: ProcessOptions): Promise<ChildProcess> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(new ProcessStartError(`${command} does not start: ${error.message}`));
    try {
      const child = spawn(command, args, {
        env: { ...environment },
        cwd: folder,
        detached: true,
        stdio: ["ignore", "pipe", "pipe"],
        ...(user ? { uid: user.uid, gid: user.gid } : {}),
      });
      child.once("error", fail);
      child.once("spawn", () => resolve(child));
    } catch (error) {
      fail(error as Error);
    }
  });
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // The group is gone already.
  }
}

function collectStdout(child: ChildProcess, bytesMax: number, stop: () => void): () => string {
  const parts: Buffer[] = [];
  let length = 0;
  assert(child.stdout, "standard output is piped");
  child.stdout.on("data", (part: Buffer) => {
    length += part.length;
    if (length > bytesMax) stop();
    else parts.push(part);
  });
  return () => Buffer.concat(parts).toString("utf8");
}

function readStderr(child: ChildProcess, options: ProcessOptions, stop: () => void): () => void {
  const splitter = new LineSplitter((line) => options.onStderrLine?.(line));
  let length = 0;
  assert(child.stderr, "standard error is piped");
  child.stderr.on("data", (part: Buffer) => {
    length += part.length;
    if (length > options.stderrBytesMax) stop();
    else splitter.push(part);
  });
  return () => splitter.end();
}

function watchMemory(pid: number, bytesMax: number | null, stop: () => void): NodeJS.Timeout | undefined {
  void writeFile(`/proc/${pid}/oom_score_adj`, OOM_SCORE_ADJUSTMENT).catch(() => {});
  if (bytesMax === null) return undefined;
  return setInterval(() => {
    void readFile(`/proc/${pid}/status`, "utf8").then(
      (status) => {
        // proc(5): in kilobytes.
        const resident = Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
        if (resident > bytesMax) stop();
      },
      () => {},
    );
  }, MEMORY_POLL_MS);
}
