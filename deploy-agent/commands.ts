import { type ChildProcess, spawn } from "node:child_process";
import { printable } from "./printable.ts";

export interface CommandOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly environment?: NodeJS.ProcessEnv;
}

export interface CommandResult {
  /** Null: it was ended by a signal or could not be started. */
  readonly code: number | null;
  /** The first megabyte. */
  readonly stdout: string;
  /** The last 64 KiB. */
  readonly stderr: string;
  /** Why there is no code, for people. */
  readonly trouble: string | null;
}

const STDOUT_MAX = 1_000_000;
const STDERR_MAX = 65_536;
const KILL_AFTER_MS = 5_000;

/**
 * Runs a command in a process group of its own and ends the whole group when the time is over or the signal is aborted.
 * Never throws.
 */
export function runCommand(command: string, args: readonly string[], options: CommandOptions): Promise<CommandResult> {
  const { promise, resolve } = Promise.withResolvers<CommandResult>();
  let stdout = "";
  let stderr = "";
  let trouble: string | null = null;
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
    ...(options.environment ? { env: options.environment } : {}),
  });
  const stop = (reason: string): void => {
    trouble ??= reason;
    endGroup(child, "SIGTERM");
    killer ??= setTimeout(() => endGroup(child, "SIGKILL"), KILL_AFTER_MS);
  };
  let killer: NodeJS.Timeout | null = null;
  const timer = setTimeout(() => stop(`took longer than ${options.timeoutMs / 1_000} s`), options.timeoutMs);
  const onAbort = (): void => stop("was interrupted");
  if (options.signal?.aborted) onAbort();
  options.signal?.addEventListener("abort", onAbort, { once: true });
  const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
    clearTimeout(timer);
    if (killer) clearTimeout(killer);
    options.signal?.removeEventListener("abort", onAbort);
    if (code === null) trouble ??= signal ? `was ended by ${signal}` : "could not be started";
    resolve({ code: trouble ? null : code, stdout, stderr, trouble });
  };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    stdout = (stdout + text).slice(0, STDOUT_MAX);
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-STDERR_MAX);
  });
  child.once("error", (error) => {
    trouble ??= `could not be started: ${error.message}`;
    finish(null, null);
  });
  // Not "close": a daemon that a command leaves behind may keep the pipes open for ever.
  child.once("exit", (code, signal) => {
    const after = setTimeout(() => finish(code, signal), 200);
    child.once("close", () => {
      clearTimeout(after);
      finish(code, signal);
    });
  });
  return promise;
}

/** The group of a detached child has its id. */
function endGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  endGroupOf(child.pid, signal);
}

export function endGroupOf(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // It is gone already.
  }
}

export function isGroupThere(pid: number): boolean {
  try {
    process.kill(-pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** What a failed command said last, in one line for people. */
export function lastWords(text: string, lengthMax = 500): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours of terminals begin with an escape
  const plain = text.replace(/\u001b\[[0-9;]*[A-Za-z]/g, "");
  const lines = plain.split("\n").filter((line) => line.trim() !== "");
  return printable(lines.slice(-5).join(" | ").slice(-lengthMax)).trim();
}
