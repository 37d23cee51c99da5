import { readdirSync, readFileSync } from "node:fs";
import { type Clock, SECOND } from "#core/lib/clock.ts";
import type { DaemonConnection } from "../daemon/connection.ts";
import { type ProcessTimes, parseChildren, parseProcessTimes, parseUptime, TICK_MS } from "./proc-files.ts";

/** Ticks are cut off, and two clocks are read one after the other. */
const SLACK_MS = 30;

const known = new WeakMap<DaemonConnection, number | null>();

/**
 * The process of the daemon that serves this connection, by an activity that it reports; null where that is not
 * certain. The upper half of an activity's id is a process id: that of the serving process itself, or in Nix 2.8 that
 * of the daemon that it was forked from. Either way it was forked while the connection was opened, which tells it from
 * others, and from what has that id here when the daemon lives in another container.
 */
export function daemonProcessOf(connection: DaemonConnection, activityId: bigint, clock: Clock): number | null {
  let found = known.get(connection);
  if (found === undefined) {
    found = findProcess(connection, Number(activityId >> 32n), clock);
    known.set(connection, found);
  }
  return found;
}

function findProcess({ opened }: DaemonConnection, id: number, clock: Clock): number | null {
  const uptime = parseUptime(readProc("/proc/uptime"));
  const named = timesOf(id);
  if (uptime === null || !named) return null;
  const bootMs = uptime * SECOND - clock.monotonic();
  const isForked = (process: ProcessTimes, parent: ProcessTimes | null) => {
    const startedMs = process.startedAtTicks * TICK_MS - bootMs;
    if (startedMs < opened.fromMs - SLACK_MS || startedMs > opened.untilMs + SLACK_MS) return false;
    return process.command === parent?.command;
  };
  if (isForked(named, timesOf(named.parent))) return id;
  const forked = childrenOf(id).filter((child) => {
    const times = timesOf(child);
    return times !== null && isForked(times, named);
  });
  return forked.length === 1 ? (forked[0] as number) : null;
}

export function timesOf(process: number): ProcessTimes | null {
  return parseProcessTimes(readProc(`/proc/${process}/stat`));
}

/** Children are listed with the thread that began them. */
export function childrenOf(process: number): number[] {
  const folder = `/proc/${process}/task`;
  return tasksOf(folder).flatMap((task) => parseChildren(readProc(`${folder}/${task}/children`)));
}

function tasksOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Empty where it cannot be read. These files are made by the kernel as they are read: no disk is waited for. */
export function readProc(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
