import { type ChildProcess, spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import type { Writable } from "node:stream";
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
  /** The same as it came. */
  readonly stdoutBytes: Buffer;
}

export interface ProcessOptions {
  readonly command: string;
  readonly args: readonly string[];
  /** The whole environment: nothing is inherited. PATH in it finds `command`. */
  readonly environment: Readonly<Record<string, string>>;
  readonly folder: string;
  /** Another user to run as; only root may. */
  readonly user?: ProcessUser | null;
  /** Null: no limit. */
  readonly timeoutMs: number | null;
  readonly signal?: AbortSignal | undefined;
  /** Whether something is written to its standard input; otherwise that is empty. */
  readonly hasInput?: boolean;
  /** Null: what it writes to standard output is thrown away. */
  readonly stdoutBytesMax: number | null;
  readonly stderrBytesMax: number;
  /** Resident memory of the process, looked at twice a second. Null: no limit. */
  readonly memoryBytesMax?: number | null;
  /** Each line of standard output, where `stdoutBytesMax` is null. */
  onStdoutLine?(line: string): void;
  /** Each line of standard error, without its end. A line beyond the splitter's limit is cut. */
  onStderrLine?(line: string): void;
}

export interface ProcessUser {
  readonly uid: number;
  readonly gid: number;
}

export interface RunningProcess {
  /** Of the process and of its group. */
  readonly pid: number;
  /** Its standard input. Null without `hasInput`. What is written after its end is lost without an error. */
  readonly input: Writable | null;
  /** The limit of its standard error counts from now on: for a process that does one thing after the other. */
  forgetOutput(): void;
  /** Never rejects. */
  readonly ended: Promise<ProcessEnd>;
  /** Kills the process and all its children. The first reason given is the one reported. */
  stop(reason: StopReason): void;
}

/** The command could not be started: it is missing, or its arguments are too long. */
export class ProcessStartError extends Error {
  override readonly name = "ProcessStartError";
}

/** What a process wrote before it ended is read much faster. */
const PIPES_MS_MAX = 2_000;
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

  const timer = options.timeoutMs === null ? undefined : setTimeout(() => stop("timed_out"), options.timeoutMs);
  const watch = watchMemory(pid, options.memoryBytesMax ?? null, () => stop("too_much_memory"));
  const abort = () => stop("aborted");
  options.signal?.addEventListener("abort", abort, { once: true });
  if (options.signal?.aborted) abort();
  const stdout = collectStdout(child, options, () => stop("too_much_output"));
  const stderr = readStderr(child, options, () => stop("too_much_output"));

  const ended = new Promise<ProcessEnd>((resolve) => {
    // What the process left behind would keep its pipes open for ever, also where it has left the group.
    child.once("exit", () => {
      killGroup(pid);
      const close = setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, PIPES_MS_MAX);
      child.once("close", () => clearTimeout(close));
    });
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      clearInterval(watch);
      options.signal?.removeEventListener("abort", abort);
      stderr.flush();
      const stdoutBytes = stdout();
      resolve({ code, signal, stopped, stdoutBytes, stdout: stdoutBytes.toString("utf8") });
    });
  });
  // Its end is told by `ended`.
  child.stdin?.on("error", () => {});
  return { pid, input: child.stdin, forgetOutput: stderr.forget, ended, stop };
}

/** Runs a process to its end. */
export async function runProcess(options: ProcessOptions): Promise<ProcessEnd> {
  return await (await startProcess(options)).ended;
}

function spawnGroup(options: ProcessOptions): Promise<ChildProcess> {
  const { command, args, environment, folder, user, hasInput = false, stdoutBytesMax, onStdoutLine } = options;
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(new ProcessStartError(`${command} does not start: ${error.message}`));
    try {
      const child = spawn(command, args, {
        env: { ...environment },
        cwd: folder,
        detached: true,
        stdio: [hasInput ? "pipe" : "ignore", stdoutBytesMax === null && !onStdoutLine ? "ignore" : "pipe", "pipe"],
        ...(user ? { uid: user.uid, gid: user.gid } : {}),
      });
      child.once("error", fail);
      child.once("spawn", () => resolve(child));
    } catch (error) {
      fail(error as Error);
    }
  });
}

/** Kills a process with its group. */
export function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // The group is gone already.
  }
}

function collectStdout(
  child: ChildProcess,
  { stdoutBytesMax: bytesMax, onStdoutLine }: ProcessOptions,
  stop: () => void,
): () => Buffer {
  if (bytesMax === null) {
    const splitter = new LineSplitter((line) => onStdoutLine?.(line));
    child.stdout?.on("data", (part: Buffer) => splitter.push(part)).on("end", () => splitter.end());
    return () => Buffer.alloc(0);
  }
  const parts: Buffer[] = [];
  let length = 0;
  assert(child.stdout, "standard output is piped");
  child.stdout.on("data", (part: Buffer) => {
    length += part.length;
    if (length > bytesMax) stop();
    else parts.push(part);
  });
  return () => Buffer.concat(parts);
}

function readStderr(
  child: ChildProcess,
  options: ProcessOptions,
  stop: () => void,
): { readonly flush: () => void; readonly forget: () => void } {
  const splitter = new LineSplitter((line) => options.onStderrLine?.(line));
  let length = 0;
  assert(child.stderr, "standard error is piped");
  child.stderr.on("data", (part: Buffer) => {
    length += part.length;
    if (length > options.stderrBytesMax) stop();
    else splitter.push(part);
  });
  const forget = () => {
    length = 0;
  };
  return { flush: () => splitter.end(), forget };
}

function watchMemory(pid: number, bytesMax: number | null, stop: () => void): NodeJS.Timeout | undefined {
  void writeFile(`/proc/${pid}/oom_score_adj`, OOM_SCORE_ADJUSTMENT).catch(() => {});
  if (bytesMax === null) return undefined;
  return setInterval(() => {
    void residentBytes(pid).then((bytes) => {
      if (bytes > bytesMax) stop();
    });
  }, MEMORY_POLL_MS);
}

/** Resident memory of a process; 0 when it is gone. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  // proc(5): in kilobytes.
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}
