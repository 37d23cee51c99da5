import type { Clock } from "./clock.ts";
import { ServiceManager } from "./service-manager.ts";

export interface ManagerEffects {
  /** Of this process. */
  readonly pid: number;
  /** Writes the text to the descriptor at once. */
  readonly write: (descriptor: number, text: string) => Promise<unknown>;
  /** Runs a command with this environment alone. Rejects unless it ends well. */
  readonly run: (
    command: string,
    args: readonly string[],
    environment: Readonly<Record<string, string>>,
  ) => Promise<unknown>;
  readonly clock: Clock;
  readonly warn: (message: string, error: unknown) => void;
}

/**
 * The service manager that has started this process, if one has; its variables are taken out of `environment`. A
 * message goes over the connection that this process was started with, as one write: the manager sees who wrote it.
 * Without one, systemd-notify sends it.
 */
export function serviceManagerOf(
  environment: Record<string, string | undefined>,
  { pid, write, run, clock, warn }: ManagerEffects,
): ServiceManager {
  const place = takeManagerPlace(environment, pid);
  if (!place) return new ServiceManager();
  const { descriptor, socket, watchdogMs } = place;
  const variables = { NOTIFY_SOCKET: socket, ...(environment.PATH !== undefined && { PATH: environment.PATH }) };
  const send = async (text: string): Promise<void> => {
    if (descriptor === null) await run("systemd-notify", text.split("\n"), variables);
    else await write(descriptor, text);
  };
  return new ServiceManager({ watchdogMs, send, clock, warn });
}

/** What the service manager that has started this process wants to be told, and where. */
export interface ManagerPlace {
  /** A path, or an abstract name after `@`, of a datagram socket. */
  readonly socket: string;
  /** A connection to that socket which this process was started with. */
  readonly descriptor: number | null;
  /** Without a sign of life for as long, this process is ended and started anew. Null: nobody looks. */
  readonly watchdogMs: number | null;
}

/** sd_listen_fds(3). */
const DESCRIPTOR_FIRST = 3;
const DESCRIPTORS_MAX = 1_000;
/** The name of the connection among the unit's descriptors: `OpenFile=/run/systemd/notify:notify`. */
const DESCRIPTOR_NAME = "notify";

const PLACE_NAMES = [
  "NOTIFY_SOCKET",
  "WATCHDOG_USEC",
  "WATCHDOG_PID",
  "LISTEN_PID",
  "LISTEN_FDS",
  "LISTEN_FDNAMES",
] as const;

/**
 * Reads sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3) from the environment and takes them out of it: no
 * child speaks for this process. Null: no service manager wants to be told anything.
 */
export function takeManagerPlace(environment: Record<string, string | undefined>, pid: number): ManagerPlace | null {
  const { NOTIFY_SOCKET: socket, WATCHDOG_USEC, WATCHDOG_PID, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  for (const name of PLACE_NAMES) delete environment[name];
  if (!socket) return null;
  const count = LISTEN_PID === String(pid) ? wholeNumber(LISTEN_FDS, DESCRIPTORS_MAX) : 0;
  const names = (LISTEN_FDNAMES ?? "").split(":").slice(0, count);
  const index = names.indexOf(DESCRIPTOR_NAME);
  const isWatched = WATCHDOG_PID === undefined || WATCHDOG_PID === String(pid);
  const watchdogUs = isWatched ? wholeNumber(WATCHDOG_USEC, Number.MAX_SAFE_INTEGER) : 0;
  return {
    socket,
    descriptor: index < 0 ? null : DESCRIPTOR_FIRST + index,
    watchdogMs: watchdogUs > 0 ? watchdogUs / 1_000 : null,
  };
}

/** 0 for what is none. */
function wholeNumber(text: string | undefined, max: number): number {
  const number = /^\d{1,16}$/.test(text ?? "") ? Number(text) : 0;
  return number <= max ? number : 0;
}
