import { createHash } from "node:crypto";
import { readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** A variable that all programs carry which a worker starts for its evaluations. */
const MARK_VARIABLE = "GRADIENT_WORKER_CHILD_OF";
/** Who is killed cannot start more; what it started just before is found the next time. */
const ROUNDS_MAX = 5;

/** Names the worker of this data folder: at most one runs. 16 characters. */
export function workerMark(dataDir: string): string {
  return createHash("sha256").update(resolve(dataDir)).digest("hex").slice(0, 16);
}

export function markVariables(dataDir: string): Readonly<Record<string, string>> {
  return { [MARK_VARIABLE]: workerMark(dataDir) };
}

/**
 * Ends what a killed worker of this data folder left running, of whatever group or session: an evaluator at work
 * notices nothing of its worker's end, and may have gigabytes. A mark is a matter of the process itself, unlike a
 * noted id, which another process may have by now. Answers how many there were. Where there is no /proc it finds none.
 */
export async function endLeftProcesses(dataDir: string): Promise<number> {
  const mark = `${MARK_VARIABLE}=${workerMark(dataDir)}`;
  const ended = new Set<number>();
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const found = await markedProcesses(mark);
    if (found.length === 0) break;
    for (const pid of found) {
      kill(pid);
      ended.add(pid);
    }
  }
  return ended.size;
}

/** In the system's temporary folder: where a socket has to be whose path would be too long in the data folder. */
export function socketFolderPrefix(mark: string): string {
  return join(tmpdir(), `gradient-ssh-${mark}-`);
}

/** Removes the folders of sockets that a killed worker left. */
export async function removeLeftSockets(dataDir: string): Promise<void> {
  const prefix = socketFolderPrefix(workerMark(dataDir)).slice(tmpdir().length + 1);
  const names = await readdir(tmpdir()).catch(() => [] as string[]);
  const left = names.filter((name) => name.startsWith(prefix));
  await Promise.all(left.map((name) => rm(join(tmpdir(), name), { recursive: true, force: true })));
}

async function markedProcesses(mark: string): Promise<number[]> {
  const names = await readdir("/proc").catch(() => [] as string[]);
  const pids = names.filter((name) => /^[1-9]\d*$/.test(name)).map(Number);
  const are = await Promise.all(pids.map((pid) => isMarked(pid, mark)));
  return pids.filter((pid, index) => are[index] && pid !== process.pid);
}

/** A process that has ended and was not waited for has no environment any more. */
async function isMarked(pid: number, mark: string): Promise<boolean> {
  const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
  return environment.split("\0").includes(mark);
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
}
