import { readdir, readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

/** Ids of the processes whose command line, with spaces between the arguments, contains the text. */
export async function processesWith(text: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await processIds()) if ((await commandLineOf(pid)).includes(text)) found.push(pid);
  return found;
}

/** Ids of the processes that were started with a variable whose value contains the text. */
export async function processesGiven(text: string): Promise<number[]> {
  const found: number[] = [];
  for (const pid of await processIds()) if ((await readProcessFile(pid, "environ")).includes(text)) found.push(pid);
  return found;
}

/** With spaces between the arguments. Empty when the process has ended. */
export async function commandLineOf(pid: number): Promise<string> {
  return (await readProcessFile(pid, "cmdline")).replaceAll("\0", " ").trim();
}

/** The processes and everything below them, parents first. */
export async function withDescendants(pids: readonly number[]): Promise<number[]> {
  const children = new Map<number, number[]>();
  for (const pid of await processIds()) {
    // proc(5): the parent is the second field after the command, which may hold spaces and parentheses.
    const status = await readProcessFile(pid, "stat");
    const parent = Number(status.slice(status.lastIndexOf(")") + 2).split(" ")[1]);
    children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const found = new Set(pids);
  // A set goes on with what is added to it on the way.
  for (const pid of found) for (const child of children.get(pid) ?? []) found.add(child);
  return [...found];
}

/** SIGKILL to each, in this order; those that are gone are passed over. */
export function killProcesses(pids: readonly number[]): void {
  signalAll(pids, "SIGKILL");
}

/**
 * Ends all that `list` names as when the power goes: none of them sees another's end, or starts one more meanwhile.
 * Answers which they were.
 */
export async function killAtOnce(list: () => Promise<readonly number[]>): Promise<number[]> {
  const stopped = new Set<number>();
  for (let fresh = await list(); fresh.length > 0; fresh = (await list()).filter((pid) => !stopped.has(pid))) {
    signalAll(fresh, "SIGSTOP");
    for (const pid of fresh) stopped.add(pid);
  }
  const all = [...stopped];
  killProcesses(all);
  return all;
}

function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It ended by itself.
    }
  }
}

/** Resolves when none of them is there any more, or after `timeoutMs`; one that only its parent has to bury is gone. */
export async function untilGone(pids: readonly number[], timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (const pid of pids) {
    while ((await readProcessFile(pid, "cmdline")) !== "" && performance.now() < deadline) await sleep(20);
  }
}

async function processIds(): Promise<number[]> {
  return (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
}

async function readProcessFile(pid: number, name: "cmdline" | "environ" | "stat"): Promise<string> {
  return await readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
}
