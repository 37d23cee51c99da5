import { readdir, readFile, readlink, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { hasCode } from "../files.ts";
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
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  }
  const pid = Number.parseInt(lines[0] ?? "", 10);
  return pid > 0 ? { pid, ready: lines[7]?.trim() === "ready" } : null;
}

/**
 * Makes the data folder free for a new start, and answers the process id of a PostgreSQL that had to be ended: an
 * earlier, killed server left it behind. The caller holds the folder's lock, so it belongs to nobody. A process is
 * touched only when its command line says that it is PostgreSQL on this folder: its id may have been given to another
 * program since, and then only the file goes, which PostgreSQL itself would take for a running server.
 */
export async function endLeftover(data: string): Promise<number | null> {
  const found = await readPostmasterFile(data);
  if (!found) return null;
  if (!(await isPostmasterOf(found.pid, data))) {
    await waitForBackends(data);
    await rm(join(data, "postmaster.pid"), { force: true });
    return null;
  }

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

/** The processes of a killed postmaster notice its death within seconds. None of them may write under a new one. */
async function waitForBackends(data: string): Promise<void> {
  for (let waited = 0; ; waited += POLL_MS) {
    const [left] = await processesIn(data);
    if (left === undefined) return;
    if (waited >= IMMEDIATE_STOP_MS) {
      throw new PostgresError(`a process of an earlier PostgreSQL (${left}) does not end: end it, then start again`);
    }
    await sleep(POLL_MS);
  }
}

/** Every process of PostgreSQL works in its data folder. */
async function processesIn(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const place = await readlink(`/proc/${pid}/cwd`).catch(() => null);
    if (place === folder) found.push(pid);
  }
  return found;
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
    if (!hasCode(error, "ESRCH")) throw error;
  }
}
