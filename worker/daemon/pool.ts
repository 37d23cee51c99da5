import { type Clock, MINUTE, SECOND, systemClock } from "#core/lib/clock.ts";
import { canReplaceOptions, type DaemonOptions, defaultDaemonOptions, equalOptions } from "#core/nix/daemon/options.ts";
import { DaemonConnection } from "./connection.ts";
import { Places } from "./places.ts";

export interface DaemonPoolOptions {
  readonly socketPath: string;
  /** Each connection is a process of the daemon. */
  readonly maxConnections: number;
  /** Places that this pool shares with those of other daemons: a connection in use takes one of them too. */
  readonly shared?: Places;
  /** How long a caller may wait for a connection before `DaemonPoolTimeoutError`. Default 600 s. */
  readonly waitMsMax?: number;
  /** How long an unused connection is kept. Default 60 s. */
  readonly idleMsMax?: number;
  /** An older connection is not used again: it keeps all it touched from garbage collection. Default 10 minutes. */
  readonly ageMsMax?: number;
  readonly clock?: Clock;
}

export interface BorrowOptions {
  /** Ends the waiting; later it closes the connection, which ends what runs on it. */
  readonly signal?: AbortSignal;
  readonly settings?: DaemonOptions;
}

/** All connections were in use for too long. */
export class DaemonPoolTimeoutError extends Error {
  override readonly name = "DaemonPoolTimeoutError";
}

/** The pool was closed: the worker is shutting down. */
export class DaemonPoolClosedError extends Error {
  override readonly name = "DaemonPoolClosedError";
}

interface PooledConnection {
  readonly connection: DaemonConnection;
  readonly openedAtMs: number;
  settings: DaemonOptions | null;
  cancelIdle: () => void;
}

/** At most so many connections to one nix-daemon; callers wait in the order they came. */
export class DaemonPool implements AsyncDisposable {
  readonly #options: Required<Omit<DaemonPoolOptions, "shared">> & Pick<DaemonPoolOptions, "shared">;
  readonly #idle: PooledConnection[] = [];
  readonly #borrowed = new Set<PooledConnection>();
  readonly #places: Places;
  #closed = false;

  constructor(options: DaemonPoolOptions) {
    this.#options = {
      waitMsMax: 600 * SECOND,
      idleMsMax: MINUTE,
      ageMsMax: 10 * MINUTE,
      clock: systemClock,
      ...options,
    };
    this.#places = new Places(options.maxConnections, this.#options.clock);
  }

  /** For metrics. */
  get counts(): { readonly idle: number; readonly borrowed: number; readonly waiting: number } {
    return { idle: this.#idle.length, borrowed: this.#places.taken, waiting: this.#places.waiting };
  }

  /**
   * Runs `task` with a connection that answered a moment ago and has these settings. When the task is over the
   * connection is kept if it is usable, and closed otherwise. What the task added is safe from garbage collection
   * only while the task runs.
   */
  async use<T>(task: (connection: DaemonConnection) => Promise<T>, options: BorrowOptions = {}): Promise<T> {
    const { signal, settings = defaultDaemonOptions } = options;
    const { waitMsMax, maxConnections, shared } = this.#options;
    const timeout = () => timeoutError(maxConnections, waitMsMax);
    await this.#places.take(waitMsMax, timeout, signal);
    try {
      await shared?.take(waitMsMax, timeout, signal);
      try {
        const pooled = await this.#connect(settings, signal);
        return await this.#run(pooled, task, signal);
      } finally {
        shared?.leave();
      }
    } finally {
      this.#places.leave();
    }
  }

  /** Refuses new and waiting callers and resolves when the present ones are done. `abandon` ends what they run. */
  async close({ abandon = false }: { readonly abandon?: boolean } = {}): Promise<void> {
    this.#closed = true;
    for (const pooled of this.#idle.splice(0)) discard(pooled);
    if (abandon) for (const pooled of this.#borrowed) pooled.connection.close();
    await this.#places.close(new DaemonPoolClosedError("the pool of nix-daemon connections is closed"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close({ abandon: true });
  }

  async #run<T>(
    pooled: PooledConnection,
    task: (connection: DaemonConnection) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const { connection } = pooled;
    const abort = () => connection.close();
    this.#borrowed.add(pooled);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      signal?.throwIfAborted();
      return await task(connection);
    } catch (error) {
      // A task whose connection was closed under it fails for the reason of the abort.
      throw signal?.aborted ? signal.reason : error;
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#borrowed.delete(pooled);
      this.#keep(pooled);
    }
  }

  async #connect(settings: DaemonOptions, signal: AbortSignal | undefined): Promise<PooledConnection> {
    const { clock, socketPath } = this.#options;
    for (let pooled = this.#takeIdle(settings); pooled; pooled = this.#takeIdle(settings)) {
      if (await pooled.connection.probe()) return await applySettings(pooled, settings, signal);
      discard(pooled);
    }
    const connection = await DaemonConnection.open(socketPath, { clock, ...(signal && { signal }) });
    const pooled = { connection, openedAtMs: clock.monotonic(), settings: null, cancelIdle: () => {} };
    return await applySettings(pooled, settings, signal);
  }

  /** One with these settings if there is one, else one that can take them; the one used last first. */
  #takeIdle(settings: DaemonOptions): PooledConnection | null {
    const same = this.#idle.findLastIndex((pooled) => pooled.settings && equalOptions(pooled.settings, settings));
    const index =
      same >= 0
        ? same
        : this.#idle.findLastIndex((pooled) => pooled.settings && canReplaceOptions(pooled.settings, settings));
    const [pooled] = index >= 0 ? this.#idle.splice(index, 1) : [];
    if (pooled) {
      pooled.cancelIdle();
      return pooled;
    }
    // None fits: the one that waits longest makes room for a new one.
    const unfit = this.#idle.length > this.#places.free ? this.#idle.shift() : undefined;
    if (unfit) discard(unfit);
    return null;
  }

  #keep(pooled: PooledConnection): void {
    const { clock, idleMsMax, ageMsMax } = this.#options;
    const tooOld = clock.monotonic() - pooled.openedAtMs > ageMsMax;
    if (this.#closed || tooOld || !pooled.connection.usable) {
      discard(pooled);
      return;
    }
    pooled.cancelIdle = clock.schedule(idleMsMax, () => {
      const index = this.#idle.indexOf(pooled);
      if (index >= 0) this.#idle.splice(index, 1);
      discard(pooled);
    });
    this.#idle.push(pooled);
  }
}

async function applySettings(
  pooled: PooledConnection,
  settings: DaemonOptions,
  signal: AbortSignal | undefined,
): Promise<PooledConnection> {
  if (pooled.settings && equalOptions(pooled.settings, settings)) return pooled;
  try {
    await pooled.connection.setOptions(settings, { signal });
  } catch (error) {
    discard(pooled);
    throw error;
  }
  pooled.settings = settings;
  return pooled;
}

function discard(pooled: PooledConnection): void {
  pooled.cancelIdle();
  pooled.connection.close();
}

function timeoutError(maxConnections: number, waitMsMax: number): DaemonPoolTimeoutError {
  return new DaemonPoolTimeoutError(
    `all ${maxConnections} connections to the nix-daemon were in use for ${waitMsMax / SECOND} s: ` +
      "raise GRADIENT_MAX_NIXDAEMON_CONNECTIONS or lower the number of concurrent builds",
  );
}
