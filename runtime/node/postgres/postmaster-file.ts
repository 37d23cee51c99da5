import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PostgresError } from "./error.ts";

const POLL_MS = 50;
const FAST_STOP_MS = 20_000;
const IMMEDIATE_STOP_MS = 10_000;

/** PostgreSQL's own `postmaster.pid`: line 1 is the process, line 8 its state. */
export async function readPostmasterFile(data: string): Promise<{ pid: number; ready: boolean } | null> {
  let lines: string[];
  try {
    lines = (await readFile(join(data, "postmaster.pid"), "utf8")).split("\n");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
  const pid = Number.parseInt(lines[0] ?? "", 10);
  return pid > 0 ? { pid, ready: lines[7]?.trim() === "ready" } : null;
}

/**
 * Ends a PostgreSQL that an earlier, killed server left behind on this data folder. The caller holds the folder's lock,
 * so it belongs to nobody. The process is touched only when its command line says that it is PostgreSQL on this folder:
 * its id may have been given to another program since.
 */
export async function endLeftover(data: string): Promise<number | null> {
  const found = await readPostmasterFile(data);
  if (!found || !(await isPostmasterOf(found.pid, data))) return null;

  // A fast shutdown writes a checkpoint; an immediate one leaves recovery to the next start.
  for (const [signal, waitMs] of [
    ["SIGINT", FAST_STOP_MS],
    ["SIGQUIT", IMMEDIATE_STOP_MS],
  ] as const) {
    kill(found.pid, signal);
    for (let waited = 0; waited < waitMs; waited += POLL_MS) {
      if (!(await isPostmasterOf(found.pid, data))) return found.pid;
      await sleep(POLL_MS);
    }
  }
  throw new PostgresError(
    `PostgreSQL of an earlier start (process ${found.pid}) does not end: end it, then start again`,
  );
}

async function isPostmasterOf(pid: number, data: string): Promise<boolean> {
  const words = await readFile(`/proc/${pid}/cmdline`, "utf8").then(
    (text) => text.split("\0"),
    (): string[] => [],
  );
  const folder = words.indexOf("-D");
  return basename(words[0] ?? "") === "postgres" && folder > 0 && words[folder + 1] === data;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}
