import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

export interface CommandEnd {
  /** 127 when it could not be started. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly environment: Readonly<Record<string, string>>;
  readonly folder?: string;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

const OUTPUT_LENGTH_MAX = 1024 * 1024;
const TIMEOUT_MS = 60_000;

/** Runs a command to its end. Its exit code is never thrown; an abort is. */
export async function runCommand(
  command: string,
  args: readonly string[],
  { environment, folder, signal, timeoutMs = TIMEOUT_MS }: CommandOptions,
): Promise<CommandEnd> {
  signal?.throwIfAborted();
  const limit = AbortSignal.timeout(timeoutMs);
  const child = spawn(command, args, {
    cwd: folder,
    env: { ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const end = () => {
    if (child.pid !== undefined) killGroup(child.pid);
  };
  const stop = signal ? AbortSignal.any([signal, limit]) : limit;
  stop.addEventListener("abort", end, { once: true });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] = (output[name] + text).slice(-OUTPUT_LENGTH_MAX);
    });
  }
  const code = await new Promise<number>((done) => {
    child.once("error", (error) => {
      output.stderr += error.message;
      done(127);
    });
    child.once("close", (exitCode) => done(exitCode ?? 1));
  });
  stop.removeEventListener("abort", end);
  signal?.throwIfAborted();
  if (limit.aborted) output.stderr += `\nit did not end within ${Math.round(timeoutMs / 1_000)} s`;
  return { code, ...output };
}

export function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It is gone already.
  }
}

/** The last lines that say something. */
export function lastLines(text: string, max: number): string[] {
  return text
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => line !== "")
    .slice(-max);
}

/** The file that a command's name means; null when there is none. */
export function findCommand(name: string, searchPath: string): string | null {
  for (const folder of searchPath.split(delimiter)) {
    if (!folder.startsWith("/")) continue;
    try {
      const path = join(folder, name);
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this one.
    }
  }
  return null;
}
