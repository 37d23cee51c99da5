import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "#core/ports/logger.ts";
import type { Notifier, Topic } from "#core/ports/notifier.ts";
import { readPayload, takePayload, WAKE_UP_CHANNEL, type WakeUp } from "#runtime/common/wake-up-payload.ts";
import { noLongerAnswers, PROBE_TIMEOUT_MS } from "./connection-probe.ts";
import { type ConnectionTarget, clientConfig } from "./pool.ts";

/** What other servers wait at most for wake-ups that go together: one statement instead of hundreds a second. */
const GATHER_MS = 20;
/** Wake-ups that wait for the connection. More are dropped, and the others are told that they missed some. */
const PENDING_MAX = 10_000;
const RECONNECT_MS_MIN = 100;
const RECONNECT_MS_MAX = 5_000;

export interface RunningNotifier extends Notifier {
  /** Sends what waits, as far as the connection allows, and ends. */
  close(): Promise<void>;
}

/**
 * Wake-ups inside this process and, over one connection of its own, between servers.
 *
 *     notify -> local subscribers, at once, in this process
 *            -> pending set -> one statement at a time -> NOTIFY -> other processes' LISTEN -> their subscribers
 *
 * While a statement is under way further wake-ups gather in the set, where equal ones become one. The connection is
 * made anew for as long as it takes, and subscribers of `missed` are told then: word of others may have been lost.
 * `startNotifier` resolves after the first attempt, whatever its outcome.
 */
export async function startNotifier(target: ConnectionTarget, log: Logger): Promise<RunningNotifier> {
  const notifier = new PostgresNotifier(target, log);
  await notifier.start();
  return notifier;
}

class PostgresNotifier implements RunningNotifier {
  readonly #target: ConnectionTarget;
  readonly #log: Logger;
  readonly #origin = randomUUID();
  readonly #subscribers = new Map<Topic, Set<(subject: string) => void>>();
  readonly #pending = new Map<string, WakeUp>();
  readonly #closing = new AbortController();
  #client: pg.Client | null = null;
  #sending: Promise<void> | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(target: ConnectionTarget, log: Logger) {
    this.#target = target;
    this.#log = log;
  }

  async start(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#running = this.#stayConnected(resolve);
    await promise;
  }

  notify(topic: Topic, subject: string): void {
    this.#deliver([topic, subject]);
    if (this.#pending.size >= PENDING_MAX) this.#drop();
    this.#pending.set(`${topic} ${subject}`, [topic, subject]);
    this.#send();
  }

  subscribe(topic: Topic, handler: (subject: string) => void): () => void {
    const handlers = this.#subscribers.get(topic) ?? new Set();
    this.#subscribers.set(topic, handlers);
    // Wrapped, so that one function may subscribe twice.
    const entry = (subject: string): void => handler(subject);
    handlers.add(entry);
    return () => handlers.delete(entry);
  }

  async close(): Promise<void> {
    await this.#sending;
    this.#closing.abort();
    await this.#client?.end().catch(() => {});
    await this.#running;
  }

  #deliver([topic, subject]: WakeUp): void {
    for (const handler of this.#subscribers.get(topic) ?? []) handler(subject);
  }

  #send(): void {
    this.#sending ??= (async () => {
      do {
        await sleep(GATHER_MS, undefined, { signal: this.#closing.signal }).catch(() => {});
        try {
          await this.#client?.query("select pg_notify($1, $2)", [
            WAKE_UP_CHANNEL,
            takePayload(this.#pending, this.#origin),
          ]);
        } catch {
          // The connection is gone, and these wake-ups with it.
          this.#drop();
          break;
        }
      } while (this.#client && this.#pending.size > 0);
      this.#sending = null;
    })();
  }

  #drop(): void {
    this.#pending.clear();
    this.#pending.set("missed", ["missed", ""]);
  }

  #receive(payload: string): void {
    for (const wakeUp of readPayload(payload, this.#origin)) this.#deliver(wakeUp);
  }

  async #stayConnected(attempted: () => void): Promise<void> {
    let wasAway = false;
    for (let delay = RECONNECT_MS_MIN; !this.#closing.signal.aborted; ) {
      const client = new pg.Client({ ...clientConfig(this.#target, "notifier"), query_timeout: PROBE_TIMEOUT_MS });
      const lost = Promise.withResolvers<void>();
      client.on("error", (error) => {
        this.#log.warn("the connection for wake-ups was lost; they wait for the next poll until it is back", { error });
        lost.resolve();
      });
      client.on("end", () => lost.resolve());
      client.on("notification", ({ payload }) => this.#receive(payload ?? ""));
      try {
        await client.connect();
        await client.query(`listen ${WAKE_UP_CHANNEL}`);
        delay = RECONNECT_MS_MIN;
        this.#client = client;
        this.#send();
        if (wasAway) this.#deliver(["missed", ""]);
        wasAway = true;
        attempted();
        if (!this.#closing.signal.aborted) await noLongerAnswers(client, lost.promise);
      } catch (error) {
        this.#log.warn("no connection for wake-ups", { error });
      }
      attempted();
      this.#client = null;
      await client.end().catch(() => {});
      await sleep(delay, undefined, { signal: this.#closing.signal }).catch(() => {});
      delay = Math.min(delay * 2, RECONNECT_MS_MAX);
    }
  }
}
