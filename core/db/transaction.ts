import type { Kysely, Transaction } from "kysely";
import { sleep, systemClock } from "../lib/clock.ts";
import { failureKind } from "./failure.ts";
import type { Database } from "./schema.ts";

const ATTEMPTS_MAX = 5;
const DELAY_MS = 10;

/**
 * Runs the body in one transaction (read committed) and commits when it resolves. When PostgreSQL rolled it back
 * because of a deadlock or a serialization conflict, the whole body runs again, 5 times at most: everything it does
 * outside the transaction must be fit for that.
 */
export async function inTransaction<T>(
  db: Kysely<Database>,
  body: (trx: Transaction<Database>) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await db.transaction().execute(body);
    } catch (error) {
      if (failureKind(error) !== "conflict" || attempt >= ATTEMPTS_MAX) throw error;
      // Two that collided must not come back at the same moment.
      await sleep(systemClock, DELAY_MS * 2 ** attempt * Math.random());
    }
  }
}
