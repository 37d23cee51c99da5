import { readFile, writeFile } from "node:fs/promises";

/**
 * Begins to watch these processes and their children. What comes answers how many bytes the most memory that they had
 * since is above what they have now.
 */
export async function memoryGrowth(parents: readonly number[]): Promise<() => Promise<number>> {
  const pids = (await Promise.all(parents.map(withChildren))).flat();
  // proc(5): the peak begins anew.
  for (const pid of pids) await writeFile(`/proc/${pid}/clear_refs`, "5");
  const before = await peakBytes(pids);
  return async () => (await peakBytes(pids)) - before;
}

async function withChildren(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  return [pid, ...children.split(" ").filter(Boolean).map(Number)];
}

async function peakBytes(pids: readonly number[]): Promise<number> {
  let kib = 0;
  for (const pid of pids) kib += Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]);
  return kib * 1024;
}
