import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import { type Clock, sleep, systemClock } from "../lib/clock.ts";
import { type RandomBytes, randomFraction, systemRandom } from "../lib/ids.ts";
import { failureKind } from "./failure.ts";
import type { Database } from "./schema.ts";

const ATTEMPTS_MAX = 5;
const DELAY_MS = 10;

/**
 * In a transaction, or in a statement that is one: nobody waits for the disk at its commit. A database that dies within
 * the next second (`wal_writer_delay`, three times) may have forgotten it when it comes back, with all that came after
 * it and was not waited for either. A later transaction that is waited for makes it durable too. Only for what nobody
 * is told that could not be done again.
 */
export const commitsLater: RawBuilder<string> = sql<string>`set_config('synchronous_commit', 'off', true)`;

/** What the pauses between tries are made with. */
export interface RetryPorts {
  readonly clock: Clock;
  readonly random: RandomBytes;
}

const SYSTEM_PORTS: RetryPorts = { clock: systemClock, random: systemRandom };

/**
 * Runs the body in one transaction (read committed) and commits when it resolves. When PostgreSQL rolled it back
 * because of a deadlock or a serialization conflict, the whole body runs again, 5 times at most: everything it does
 * outside the transaction must be fit for that.
 */
export async function inTransaction<T>(
  db: Kysely<Database>,
  body: (trx: Transaction<Database>) => Promise<T>,
  ports: RetryPorts = SYSTEM_PORTS,
): Promise<T> {
  return await withRetries(() => db.transaction().execute(body), ports);
}

/** The same for a body that is a single statement, which is a transaction by itself and needs none around it. */
export async function withRetries<T>(body: () => Promise<T>, { clock, random }: RetryPorts = SYSTEM_PORTS): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await body();
    } catch (error) {
      if (failureKind(error) !== "conflict" || attempt >= ATTEMPTS_MAX) throw error;
      // Two that collided must not come back at the same moment.
      await sleep(clock, DELAY_MS * 2 ** attempt * randomFraction(random));
    }
  }
}
