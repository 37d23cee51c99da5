import { type Kysely, sql } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { uuidV7 } from "#core/lib/ids.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { Notifier, Topic } from "#core/ports/notifier.ts";
import { takePayload, WAKE_UP_CHANNEL, type WakeUp } from "#runtime/common/wake-up-payload.ts";

export interface RequestNotifier extends Notifier {
  /** Sends what was gathered to the servers. It never rejects: a lost wake-up costs them a poll interval. */
  flush(): Promise<void>;
}

/**
 * Wake-ups of one request: its own subscribers hear at once, the servers when it ends. Nobody here listens for those of
 * others, since nothing is remembered from one request to the next.
 */
export function createRequestNotifier(db: Kysely<Database>, log: Logger): RequestNotifier {
  const subscribers = new Map<Topic, Set<(subject: string) => void>>();
  const pending = new Map<string, WakeUp>();
  const origin = uuidV7(Date.now());
  return {
    notify(topic, subject) {
      for (const handler of subscribers.get(topic) ?? []) handler(subject);
      pending.set(`${topic} ${subject}`, [topic, subject]);
    },
    subscribe(topic, handler) {
      const handlers = subscribers.get(topic) ?? new Set();
      subscribers.set(topic, handlers.add(handler));
      return () => handlers.delete(handler);
    },
    async flush() {
      try {
        while (pending.size > 0) {
          await sql`select pg_notify(${WAKE_UP_CHANNEL}, ${takePayload(pending, origin)})`.execute(db);
        }
      } catch (error) {
        log.warn("wake-ups could not be sent to the servers", { error });
      }
    },
  };
}
