import { readFile } from "node:fs/promises";
import { cpus, freemem } from "node:os";
import type { WorkerMetrics } from "#core/protocol/worker-messages.ts";

export type MachineMetrics = Omit<WorkerMetrics, "type">;

/** Counters that only grow; null where this machine does not keep them. */
interface Counters {
  readonly atMs: number;
  readonly cpuBusyMs: number;
  readonly cpuTotalMs: number;
  readonly diskBytes: number | null;
  readonly networkBytes: number | null;
}

const MIB = 2 ** 20;
/** The unit of /proc/diskstats, whatever the disk's own is (Linux, Documentation/admin-guide/iostats.rst). */
const SECTOR_BYTES = 512;
/** Parts of disks and what lies on top of disks would be counted twice. */
const WHOLE_DISK = /^(?:sd[a-z]+|vd[a-z]+|xvd[a-z]+|hd[a-z]+|nvme\d+n\d+|mmcblk\d+)$/;

/** Answers how the machine was doing since the last call, from what its kernel counts anyway. */
export function createMachineMetrics(): () => Promise<MachineMetrics> {
  let before: Counters | null = null;
  return async () => {
    const now = await readCounters();
    const last = before;
    before = now;
    const totalMs = last ? now.cpuTotalMs - last.cpuTotalMs : now.cpuTotalMs;
    const busyMs = last ? now.cpuBusyMs - last.cpuBusyMs : now.cpuBusyMs;
    return {
      cpu_usage_pct: totalMs > 0 ? Math.min(100, Math.max(0, Math.round((1000 * busyMs) / totalMs) / 10)) : 0,
      ram_free_mb: Math.floor(freemem() / MIB),
      disk_speed_mbps: speed(last, now, "diskBytes"),
      network_speed_mbps: speed(last, now, "networkBytes"),
    };
  };
}

/** Megabits a second. Null where a counter is missing or began anew. */
function speed(last: Counters | null, now: Counters, counter: "diskBytes" | "networkBytes"): number | null {
  const [from, to] = [last?.[counter] ?? null, now[counter]];
  if (last === null || from === null || to === null || to < from || now.atMs <= last.atMs) return null;
  return Math.round(((to - from) * 8 * 10) / (now.atMs - last.atMs) / 1000) / 10;
}

async function readCounters(): Promise<Counters> {
  const [disks, network] = await Promise.all([readProc("/proc/diskstats"), readProc("/proc/net/dev")]);
  const times = cpus().map(({ times }) => times);
  const total = times.reduce((sum, { user, nice, sys, idle, irq }) => sum + user + nice + sys + idle + irq, 0);
  const idle = times.reduce((sum, time) => sum + time.idle, 0);
  return {
    atMs: performance.now(),
    cpuBusyMs: total - idle,
    cpuTotalMs: total,
    diskBytes: disks === null ? null : countDiskBytes(disks),
    networkBytes: network === null ? null : countNetworkBytes(network),
  };
}

/** What was read from and written to whole disks, by the text of /proc/diskstats. */
export function countDiskBytes(text: string): number {
  let sectors = 0;
  for (const line of text.split("\n")) {
    const [, , name = "", , , read, , , , written] = line.trim().split(/\s+/);
    if (WHOLE_DISK.test(name)) sectors += Number(read) + Number(written);
  }
  return sectors * SECTOR_BYTES;
}

/** What came in and went out over all interfaces but the loopback, by the text of /proc/net/dev. */
export function countNetworkBytes(text: string): number {
  let bytes = 0;
  for (const line of text.split("\n")) {
    const [name, counters] = line.split(":");
    if (counters === undefined || name?.trim() === "lo") continue;
    const numbers = counters.trim().split(/\s+/).map(Number);
    bytes += (numbers[0] ?? 0) + (numbers[8] ?? 0);
  }
  return bytes;
}

async function readProc(path: string): Promise<string | null> {
  return await readFile(path, "utf8").catch(() => null);
}
