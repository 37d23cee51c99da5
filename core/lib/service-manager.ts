import { type Clock, SECOND, sleep } from "./clock.ts";

export interface ServiceManagerOptions {
  readonly watchdogMs: number | null;
  /** Sends one datagram. Rejects when it was not sent. */
  readonly send: (text: string) => Promise<void>;
  readonly clock: Clock;
  readonly warn: (message: string, error: unknown) => void;
}

/** What a running program can say of itself. */
export interface SignsOfLife {
  /** Resolves when everything has turned that has to; never, when something hangs. Rejects with what is wrong. */
  readonly check: () => Promise<void>;
  /** One line for people. */
  readonly describe: () => string;
}

/** How often a status that has changed is told, and time is asked for that a start or a stop still needs. */
const BEAT_MS: number = 10 * SECOND;
const EXTEND_MS: number = 60 * SECOND;
/** systemctl(1) shows one line. */
const STATUS_LENGTH_MAX = 200;
/** Signs of life in the time of the watchdog: one may be lost and one late. */
const SIGNS_OF_LIFE = 3;
/** At the end: a manager that does not take what it is told is not waited for. */
const CLOSE_MS_MAX: number = 5 * SECOND;

/**
 * Tells the service manager how this process is doing: sd_notify(3). One message is under way at a time; what is said
 * meanwhile goes together into the next, the latest word on each subject, and so does what could not be sent. Without
 * options there is no service manager, and nothing happens.
 */
export class ServiceManager {
  readonly #options: ServiceManagerOptions | null;
  readonly #closing = new AbortController();
  readonly #unsent = new Map<string, string>();
  #sending: Promise<void> | null = null;
  #describe: () => string = () => "starting";
  #needsTime: () => boolean = () => false;
  #status = "";
  #hasFailed = false;

  constructor(options: ServiceManagerOptions | null = null) {
    this.#options = options;
    void this.#every(BEAT_MS, () => this.#beat());
  }

  /** The program is up, and gives signs of life from now on. */
  ready({ check, describe }: SignsOfLife): void {
    this.#describe = describe;
    this.#unsent.set("READY", "1");
    this.#beat();
    const watchdogMs = this.#options?.watchdogMs ?? null;
    if (watchdogMs !== null) this.#watch(watchdogMs / SIGNS_OF_LIFE, check);
  }

  /** The stop has begun. While `needsTime` says so, it may take longer than a stop may. */
  stopping(describe: () => string, needsTime: () => boolean = () => false): void {
    this.#describe = describe;
    this.#needsTime = needsTime;
    this.#unsent.set("STOPPING", "1");
    this.#beat();
  }

  /** Does a task of the start, which may take longer than a start may: it is given the time, as long as we turn. */
  async during<T>(what: string, task: () => Promise<T>): Promise<T> {
    this.#describe = () => what;
    this.#needsTime = () => true;
    this.#beat();
    try {
      return await task();
    } finally {
      this.#needsTime = () => false;
    }
  }

  /** Resolves when everything that was said is sent, or cannot be. */
  async close(): Promise<void> {
    if (this.#options && this.#sending) {
      const over = new AbortController();
      await Promise.race([this.#sending, sleep(this.#options.clock, CLOSE_MS_MAX, over.signal)]);
      over.abort();
    }
    this.#closing.abort();
  }

  #beat(): void {
    const status = this.#describe().replaceAll(/\s+/g, " ").slice(0, STATUS_LENGTH_MAX);
    if (status !== this.#status) this.#unsent.set("STATUS", status);
    this.#status = status;
    if (this.#needsTime()) this.#unsent.set("EXTEND_TIMEOUT_USEC", String(EXTEND_MS * 1_000));
    this.#send();
  }

  /** One check at a time: the answer of a slow one counts when it comes. */
  #watch(intervalMs: number, check: SignsOfLife["check"]): void {
    let isChecking = false;
    const look = () => {
      if (isChecking) return;
      isChecking = true;
      check()
        .then(() => {
          this.#unsent.set("WATCHDOG", "1");
          this.#send();
        })
        .catch((error: unknown) => this.#options?.warn("this process does not call itself alive", error))
        .finally(() => (isChecking = false));
    };
    look();
    void this.#every(intervalMs, look);
  }

  #send(): void {
    if (this.#options && this.#unsent.size > 0) this.#sending ??= this.#sendAll(this.#options);
  }

  async #sendAll({ send, warn }: ServiceManagerOptions): Promise<void> {
    while (this.#unsent.size > 0) {
      const said = [...this.#unsent];
      this.#unsent.clear();
      try {
        await send(said.map(([name, value]) => `${name}=${value}`).join("\n"));
        this.#hasFailed = false;
      } catch (error) {
        // A sign of life is of its moment.
        const kept = said.filter(([name]) => name !== "WATCHDOG" && !this.#unsent.has(name));
        for (const [name, value] of kept) this.#unsent.set(name, value);
        if (!this.#hasFailed) warn("the service manager is not told how this process is doing", error);
        this.#hasFailed = true;
        break;
      }
    }
    this.#sending = null;
  }

  async #every(ms: number, action: () => void): Promise<void> {
    const { signal } = this.#closing;
    while (this.#options && !signal.aborted) {
      await sleep(this.#options.clock, ms, signal);
      if (!signal.aborted) action();
    }
  }
}
