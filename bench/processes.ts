import { execFile } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { promisify } from "node:util";

const run = promisify(execFile);

/** USER_HZ is 100 on every architecture that Nix runs on. */
const MS_A_TICK = 10;

/** Which CPU the servers under test have for themselves, and which the clients. Null: the machine has only one. */
export const PINNING: { readonly server: number; readonly client: number } | null =
  availableParallelism() > 1 ? { server: 0, client: 1 } : null;

/** Keeps the process, its threads and its descendants on the servers' CPU from now on. */
export async function pinServer(pid: number): Promise<void> {
  if (PINNING) await pinTo(PINNING.server, pid);
}

/** Keeps the main thread of the process on the servers' CPU, and the threads that it has beside it on the clients'. */
export async function pinMainThread(pid: number): Promise<void> {
  if (!PINNING) return;
  await pinBesideClients(pid);
  await run("taskset", ["-c", "-p", String(PINNING.server), String(pid)]);
}

/** Keeps the process, its threads and its descendants on the clients' CPU from now on. */
export async function pinBesideClients(pid: number): Promise<void> {
  if (PINNING) await pinTo(PINNING.client, pid);
}

/** The command line that runs a client on the clients' CPU. */
export function asClient(command: string, args: readonly string[]): [command: string, args: string[]] {
  return PINNING ? ["taskset", ["-c", String(PINNING.client), command, ...args]] : [command, [...args]];
}

/** As `asClient`, ahead of whatever else wants that CPU. Throws where the machine does not allow it (root does). */
export async function asFirstClient(
  command: string,
  args: readonly string[],
): Promise<[command: string, args: string[]]> {
  const first = ["-f", "1"];
  await run("chrt", [...first, "true"]).catch((error: unknown) => {
    throw new Error("the client must be allowed to go first (chrt, as root), or it waits for what it measures", {
      cause: error,
    });
  });
  return asClient("chrt", [...first, command, ...args]);
}

/** The command line that runs a server on the servers' CPU. */
export function asServer(command: string, args: readonly string[]): [command: string, args: string[]] {
  return PINNING ? ["taskset", ["-c", String(PINNING.server), command, ...args]] : [command, [...args]];
}

/** Bytes of memory at the most since the start or `forgetPeak`, from `VmHWM` of proc(5). */
export async function peakMemoryBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
  if (!kibibytes) throw new Error(`the kernel does not tell the peak memory of process ${pid}`);
  return Number(kibibytes) * 1024;
}

/** The peak begins anew at what the process uses now (proc(5), clear_refs). */
export async function forgetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, "5");
}

/** Milliseconds of processor that the process and its descendants have used, ended ones included (proc(5), stat). */
export async function cpuMs(pid: number): Promise<number> {
  let ticks = 0;
  for (const process of [pid, ...(await descendantsOf(pid))]) {
    const stat = await readFile(`/proc/${process}/stat`, "utf8").catch(() => "");
    // The name in parentheses may hold anything; utime, stime, cutime and cstime are fields 14 to 17.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  }
  return ticks * MS_A_TICK;
}

async function pinTo(cpu: number, pid: number): Promise<void> {
  for (const process of [pid, ...(await descendantsOf(pid))]) {
    // One that has just ended needs no CPU.
    await run("taskset", ["-a", "-c", "-p", String(cpu), String(process)]).catch(() => {});
  }
}

async function descendantsOf(pid: number): Promise<number[]> {
  const parents = new Map<number, number>();
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const status = await readFile(`/proc/${name}/status`, "utf8").catch(() => "");
    parents.set(Number(name), Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1] ?? 0));
  }
  const isBelow = (child: number): boolean => {
    const parent = parents.get(child) ?? 0;
    return parent === pid || (parent > 1 && isBelow(parent));
  };
  return [...parents.keys()].filter(isBelow);
}
