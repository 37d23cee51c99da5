import type { Clock } from "#core/lib/clock.ts";
import type { BasicDerivation, BuildResult } from "#core/nix/daemon/build.ts";
import { type DaemonEvent, isBuildWaiting } from "#core/nix/daemon/events.ts";
import { ActivityType } from "#core/nix/daemon/numbers.ts";
import { type DaemonOptions, defaultDaemonOptions } from "#core/nix/daemon/options.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { DaemonConnection } from "../daemon/connection.ts";
import type { BuildLog } from "./build-log.ts";
import { type BuildCircumstances, secondsOf, silentTimeout, wallTimeout } from "./classify.ts";
import { BuildFailure } from "./failure.ts";

/** Milliseconds; 0 is no limit. */
export interface BuildTimeLimits {
  readonly timeoutMs: number;
  readonly maxSilentMs: number;
}

/** How much later than the daemon, which keeps the limits itself, we give up on it. */
const GRACE_MS = 15_000;

/** What the daemon is told of a build's limits. Connections with equal options are used again without telling. */
export function builderOptions({ timeoutMs, maxSilentMs }: BuildTimeLimits, cores: number | null): DaemonOptions {
  return {
    ...defaultDaemonOptions,
    buildCores: cores ?? defaultDaemonOptions.buildCores,
    maxSilentSeconds: secondsOf(maxSilentMs),
    overrides: new Map([["timeout", String(secondsOf(timeoutMs))]]),
  };
}

/**
 * Lets the daemon build on a connection that has the `builderOptions` of these limits. Throws what the daemon throws,
 * the signal's reason, and a `BuildFailure` when the daemon does not keep the limits; the connection is closed then.
 */
export async function runBuilder(
  connection: DaemonConnection,
  job: BuildTimeLimits & { readonly drvPath: StorePath; readonly derivation: BasicDerivation },
  context: {
    readonly log: BuildLog;
    readonly clock: Clock;
    readonly signal: AbortSignal;
    /** Sees all that the daemon tells. */
    readonly onEvent?: (event: DaemonEvent) => void;
  },
): Promise<{ readonly result: BuildResult; readonly circumstances: BuildCircumstances }> {
  const { log, clock, signal, onEvent } = context;
  const watchdog = new Watchdog(job, clock);
  try {
    const result = await connection.buildDerivation(job.drvPath, job.derivation, {
      signal: AbortSignal.any([signal, watchdog.signal]),
      onEvent: (event) => {
        onEvent?.(event);
        if (isBuildWaiting(event)) log.note("waiting: another process on this worker builds the same output");
        watchdog.see(event, log.add(event));
      },
    });
    const { timeoutMs, maxSilentMs } = job;
    return { result, circumstances: { timeoutMs, maxSilentMs, silentMs: watchdog.silentMs, phase: log.phase } };
  } finally {
    watchdog.stop();
  }
}

/** Gives up on a daemon that does not keep the limits it was given. */
class Watchdog {
  readonly #abort = new AbortController();
  readonly #limits: BuildTimeLimits;
  readonly #clock: Clock;
  #building = false;
  #startedAt: number;
  #heardAt: number;
  #cancel = () => {};

  constructor(limits: BuildTimeLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
    this.#startedAt = clock.monotonic();
    this.#heardAt = this.#startedAt;
    this.#watch();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get silentMs(): number {
    return this.#clock.monotonic() - this.#heardAt;
  }

  see(event: DaemonEvent, fromBuilder: boolean): void {
    const begins = event.kind === "start" && event.type === ActivityType.build;
    if (!begins && !fromBuilder) return;
    this.#heardAt = this.#clock.monotonic();
    if (!begins || this.#building) return;
    this.#building = true;
    this.#startedAt = this.#heardAt;
  }

  stop(): void {
    this.#cancel();
  }

  #watch(): void {
    const { timeoutMs, maxSilentMs } = this.#limits;
    const now = this.#clock.monotonic();
    const wallLeft = timeoutMs === 0 ? Number.POSITIVE_INFINITY : this.#startedAt + timeoutMs + GRACE_MS - now;
    const silenceLeft =
      maxSilentMs === 0 || !this.#building ? Number.POSITIVE_INFINITY : this.#heardAt + maxSilentMs + GRACE_MS - now;
    if (wallLeft <= 0) return this.#abort.abort(this.#building ? wallTimeout(timeoutMs) : neverBegan(timeoutMs));
    if (silenceLeft <= 0) return this.#abort.abort(silentTimeout(maxSilentMs));
    // Before the build begins its silence is not measured, so the next look is not far off.
    const next = Math.min(wallLeft, silenceLeft, maxSilentMs === 0 ? GRACE_MS * 4 : maxSilentMs + GRACE_MS);
    this.#cancel = this.#clock.schedule(next, () => this.#watch());
  }
}

function neverBegan(timeoutMs: number): BuildFailure {
  const message = `the nix-daemon did not begin the build within ${secondsOf(timeoutMs)} s: the output stayed locked`;
  return new BuildFailure("transient", message);
}
