import { readdir, readFile } from "node:fs/promises";
import { constants, getPriority, setPriority } from "node:os";

/** A tenth of the main thread's share, where both want the same processor. */
const NICER_BY = 10;

/**
 * Has V8's own threads, which look for garbage and compile, give way to everything that somebody waits for; to be
 * called at the start. Resolves with how many there are.
 *
 * On a processor that the main thread shares with them, the kernel would let them run for a whole slice (4 ms) each
 * time that the main thread waits, and whoever asks in that time waits for them. Where there is a processor to spare
 * nothing changes. Only Linux gives threads a priority of their own; elsewhere none are found. Rejects where the system
 * forbids it.
 */
export async function lowerCollectorThreads(): Promise<number> {
  const threads = await threadsCalled("V8Worker");
  const niceness = Math.min(getPriority() + NICER_BY, constants.priority.PRIORITY_LOW);
  // A thread's number is a process's to the kernel.
  for (const thread of threads) setPriority(thread, niceness);
  return threads.length;
}

async function threadsCalled(name: string): Promise<number[]> {
  const threads = await readdir("/proc/self/task").catch(() => []);
  const names = threads.map(async (thread) => (await readFile(`/proc/self/task/${thread}/comm`, "utf8")).trim());
  const known = await Promise.all(names);
  return threads.filter((_, index) => known[index] === name).map(Number);
}
