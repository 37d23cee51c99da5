import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, SECOND, sleep } from "#core/lib/clock.ts";
import { parseProcessTimes } from "../build/proc-files.ts";

/** In the folder of a private daemon: what /proc/PID/stat said of it when it began. */
export const PID_FILE = "daemon.stat";

const END_MS_MAX: number = 5 * SECOND;
const POLL_MS = 20;

/**
 * Ends the daemon that a killed worker left behind in this folder. It is known by its process id and the time of its
 * start: a process that got the id later is left alone. Builds that it ran for the killed worker ended with that one's
 * connections.
 */
export async function endLeftDaemon(folder: string, clock: Clock): Promise<void> {
  const file = join(folder, PID_FILE);
  const noted = await readText(file);
  const pid = noted === null ? null : await samePid(noted);
  if (pid !== null) await endProcess(pid, noted as string, clock);
  await rm(file, { force: true });
  await rm(join(folder, "socket"), { force: true });
}

/** The same for all daemons below `folder`, one folder each. At a start, before any of them is used. */
export async function endLeftDaemons(folder: string, clock: Clock): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  await Promise.all(names.map((name) => endLeftDaemon(join(folder, name), clock)));
}

async function endProcess(pid: number, noted: string, clock: Clock): Promise<void> {
  const deadline = clock.monotonic() + END_MS_MAX;
  signal(pid, "SIGTERM");
  while ((await samePid(noted)) !== null) {
    if (clock.monotonic() > deadline) return signal(pid, "SIGKILL");
    await sleep(clock, POLL_MS);
  }
}

/** The noted process's id while it still runs. */
async function samePid(noted: string): Promise<number | null> {
  const pid = Number(/^(\d+) \(/.exec(noted)?.[1]);
  if (!Number.isSafeInteger(pid) || pid <= 1) return null;
  const now = await readText(`/proc/${pid}/stat`);
  const [before, current] = [noted, now ?? ""].map(parseProcessTimes);
  if (!before || before.startedAtTicks !== current?.startedAtTicks) return null;
  // One that has ended and was not waited for yet.
  return / Z \d/.test(now as string) ? null : pid;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended meanwhile.
  }
}

async function readText(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return null;
  }
}
