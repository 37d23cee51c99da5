import { join } from "node:path";
import { type Clock, SECOND } from "#core/lib/clock.ts";
import type { BuildResult } from "#core/nix/daemon/build.ts";
import type { DaemonEvent } from "#core/nix/daemon/events.ts";
import { ActivityType } from "#core/nix/daemon/numbers.ts";
import type { BuildMetrics } from "#core/protocol/worker-messages.ts";
import type { DaemonConnection } from "../daemon/connection.ts";
import { childrenOf, daemonProcessOf, readProc, timesOf } from "./daemon-process.ts";
import { type ProcessTimes, parseCgroupPath, parseIoStat, parseResidentBytes, TICK_MS } from "./proc-files.ts";

export interface MeterOptions {
  readonly clock: Clock;
  /** Whether memory and IO are looked at while a build runs. */
  readonly sampling: boolean;
  /** Where the unified hierarchy of cgroups is mounted. */
  readonly cgroupRoot: string;
}

const SAMPLE_MS = 250;
const SAMPLE_LATER_MS: number = 1 * SECOND;
const SAMPLES_OFTEN = 240;
const PROCESSES_MAX = 4096;

/** What the daemon's process of a connection had waited for after its last build. A new process has waited for none. */
const waitedFor = new WeakMap<DaemonConnection, ProcessTimes>();

/**
 * Measures one build from outside. Its processor time is what the daemon's process for this connection has waited for
 * since the last build: exact, to the tick, for the builder and all that it waited for. Memory and IO come from the
 * build's cgroup where it has one; else memory is what its processes were seen to hold together. What could not be
 * measured is null: another machine's daemon, another system than Linux, a build that was over before the first look.
 */
export class BuildMeter {
  readonly #connection: DaemonConnection;
  readonly #options: MeterOptions;
  #daemonProcess: number | null = null;
  #cancel = () => {};
  #samples = 0;
  #peakBytes: number | null = null;
  #io: { readonly read: number; readonly written: number } | null = null;

  constructor(connection: DaemonConnection, options: MeterOptions) {
    this.#connection = connection;
    this.#options = options;
  }

  see(event: DaemonEvent): void {
    if (event.kind !== "start" || event.type !== ActivityType.build || this.#daemonProcess !== null) return;
    this.#daemonProcess = daemonProcessOf(this.#connection, event.id, this.#options.clock);
    if (this.#options.sampling && this.#daemonProcess !== null) this.#sampleLater();
  }

  stop(): void {
    this.#cancel();
  }

  /** Called at once when the daemon has answered, on the same connection. */
  end(result: Pick<BuildResult, "cpuUserMicroseconds" | "cpuSystemMicroseconds">): BuildMetrics {
    this.stop();
    const times = this.#childrenTimes();
    const daemonSays = (microseconds: number | null) => microseconds && Math.round(microseconds / 1000);
    return {
      cpu_user_ms: daemonSays(result.cpuUserMicroseconds) ?? times?.userMs ?? null,
      cpu_system_ms: daemonSays(result.cpuSystemMicroseconds) ?? times?.systemMs ?? null,
      peak_memory_bytes: this.#peakBytes,
      io_read_bytes: this.#io?.read ?? null,
      io_write_bytes: this.#io?.written ?? null,
    };
  }

  #childrenTimes(): { readonly userMs: number; readonly systemMs: number } | null {
    const now = this.#daemonProcess === null ? null : timesOf(this.#daemonProcess);
    if (!now) return null;
    const before = waitedFor.get(this.#connection);
    waitedFor.set(this.#connection, now);
    return {
      userMs: (now.childrenUserTicks - (before?.childrenUserTicks ?? 0)) * TICK_MS,
      systemMs: (now.childrenSystemTicks - (before?.childrenSystemTicks ?? 0)) * TICK_MS,
    };
  }

  #sampleLater(): void {
    const pause = this.#samples++ < SAMPLES_OFTEN ? SAMPLE_MS : SAMPLE_LATER_MS;
    this.#cancel = this.#options.clock.schedule(pause, () => {
      this.#sample();
      this.#sampleLater();
    });
  }

  #sample(): void {
    const daemon = this.#daemonProcess as number;
    const [builder] = childrenOf(daemon);
    if (builder === undefined) return;
    const own = parseCgroupPath(readProc(`/proc/${builder}/cgroup`));
    const daemons = parseCgroupPath(readProc(`/proc/${daemon}/cgroup`));
    if (own !== null && own !== daemons && own !== "/" && this.#sampleCgroup(own)) return;
    this.#seenMemory(residentBytesBelow(daemon));
  }

  /** False where the kernel counts no memory for the cgroup. */
  #sampleCgroup(path: string): boolean {
    const folder = join(this.#options.cgroupRoot, path);
    const peak = readProc(join(folder, "memory.peak")) || readProc(join(folder, "memory.current"));
    if (!/^\d+\n?$/.test(peak)) return false;
    this.#seenMemory(Number(peak));
    const io = readProc(join(folder, "io.stat"));
    if (io !== "") this.#io = parseIoStat(io);
    return true;
  }

  #seenMemory(bytes: number): void {
    if (bytes > 0) this.#peakBytes = Math.max(this.#peakBytes ?? 0, bytes);
  }
}

/** The memory of all processes below one, together. */
function residentBytesBelow(process: number): number {
  let bytes = 0;
  const left = childrenOf(process);
  for (let seen = 0; left.length > 0 && seen < PROCESSES_MAX; seen++) {
    const next = left.pop() as number;
    bytes += parseResidentBytes(readProc(`/proc/${next}/status`));
    left.push(...childrenOf(next));
  }
  return bytes;
}
