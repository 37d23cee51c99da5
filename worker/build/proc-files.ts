/** What /proc/PID/stat says of a process (proc(5)). Times are clock ticks. */
export interface ProcessTimes {
  /** The name of its program, at most 15 bytes of it. */
  readonly command: string;
  readonly parent: number;
  /** Of children that have ended and were waited for, with all that they had waited for. */
  readonly childrenUserTicks: number;
  readonly childrenSystemTicks: number;
  /** After the machine's start. */
  readonly startedAtTicks: number;
}

/** Linux shows ticks of 10 ms to programs whatever its own clock is (`USER_HZ`). */
export const TICK_MS = 10;

/** Null for what is no such line. The command in parentheses may hold anything, parentheses and spaces too. */
export function parseProcessTimes(stat: string): ProcessTimes | null {
  const end = stat.lastIndexOf(")");
  const command = stat.slice(stat.indexOf("(") + 1, end);
  const fields = stat.slice(end + 2).split(" ");
  // The first of these is the third of the line.
  const [parent, user, system, started] = [4, 16, 17, 22].map((position) => Number(fields[position - 3]));
  if (![parent, user, system, started].every(Number.isSafeInteger)) return null;
  return {
    command,
    parent: parent as number,
    childrenUserTicks: user as number,
    childrenSystemTicks: system as number,
    startedAtTicks: started as number,
  };
}

/** Seconds since the machine's start, from /proc/uptime; null for something else. */
export function parseUptime(text: string): number | null {
  const seconds = Number(text.split(" ")[0]);
  return text !== "" && seconds > 0 ? seconds : null;
}

/** Resident memory in bytes, from /proc/PID/status; 0 for a process that has none any more. */
export function parseResidentBytes(status: string): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}

/** Ids, from /proc/PID/task/PID/children. */
export function parseChildren(text: string): number[] {
  return text
    .split(" ")
    .map(Number)
    .filter((id) => Number.isSafeInteger(id) && id > 0);
}

/** The process's place in the unified hierarchy, from /proc/PID/cgroup; null where there is none (cgroups(7)). */
export function parseCgroupPath(text: string): string | null {
  const path = /^0::(\/.*)$/m.exec(text)?.[1];
  return path === undefined || path.split("/").includes("..") ? null : path;
}

/** Bytes from and to all devices, from a cgroup's io.stat. */
export function parseIoStat(text: string): { readonly read: number; readonly written: number } {
  const sum = (name: string) =>
    [...text.matchAll(new RegExp(`\\b${name}=(\\d+)`, "g"))].reduce((total, [, bytes]) => total + Number(bytes), 0);
  return { read: sum("rbytes"), written: sum("wbytes") };
}
