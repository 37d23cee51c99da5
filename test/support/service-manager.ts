import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

const PROGRAM = join(import.meta.dirname, "service-manager.py");

/** Why there can be none here; null when there can. */
export function serviceManagerLack(): string | null {
  if (spawnSync("python3", ["-c", "import socket; socket.SO_PASSCRED"]).status !== 0) return "there is no python3";
  return null;
}

export interface ManagedUnit extends AsyncDisposable {
  readonly pid: number;
  /** In order; each is lines of `NAME=value`. */
  readonly told: readonly { readonly sender: number; readonly text: string }[];
  /** The last value of each name. */
  readonly state: () => Readonly<Record<string, string>>;
  readonly output: () => string;
}

export interface UnitOptions {
  /** A path, or an abstract name after `@`. */
  readonly socket: string;
  /** `descriptor`: with `OpenFile=`, which connects to the socket for the unit. */
  readonly way: "descriptor" | "socket";
  readonly watchdogMs?: number;
  readonly env: Readonly<Record<string, string>>;
}

/** Starts a command as a service manager does, and keeps what the command tells it. */
export async function withUnit(command: readonly string[], options: UnitOptions): Promise<ManagedUnit> {
  const { socket, way, watchdogMs, env } = options;
  const watchdog = watchdogMs === undefined ? "" : String(watchdogMs * 1_000);
  const manager = spawn("python3", [PROGRAM, socket, way, watchdog, ...command], {
    env: { ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = once(manager, "close");
  let output = "";
  manager.stderr.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const told: { sender: number; text: string }[] = [];
  const started = Promise.withResolvers<number>();
  createInterface({ input: manager.stdout }).on("line", (line) => {
    const said = JSON.parse(line) as { unit: number } | { sender: number; text: string };
    if ("unit" in said) started.resolve(said.unit);
    // systemd-notify asks for a sign that what it sent was read: closing the descriptor in it is that sign.
    else if (said.text !== "BARRIER=1") told.push(said);
  });
  const pid = await Promise.race([started.promise, ended.then(() => Promise.reject(new Error(output)))]);
  return {
    pid,
    told,
    output: () => output,
    state: () =>
      Object.fromEntries(told.flatMap(({ text }) => text.split("\n").map((line) => line.split(/=(.*)/s, 2)))),
    [Symbol.asyncDispose]: async () => {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended.
      }
      manager.kill("SIGKILL");
      await ended;
    },
  };
}
