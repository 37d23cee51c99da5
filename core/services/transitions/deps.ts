import type { Kysely, Transaction } from "kysely";
import type { Database } from "../../db/schema.ts";
import { inTransaction } from "../../db/transaction.ts";
import type { RetryPolicy } from "../../domain/failure.ts";
import type { Clock } from "../../lib/clock.ts";
import type { RandomBytes } from "../../lib/ids.ts";
import type { Logger } from "../../ports/logger.ts";
import type { Notifier } from "../../ports/notifier.ts";
import { Wakeups } from "./wakeups.ts";

/** What the state machine of evaluations and builds works with. */
export interface TransitionDeps {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly notifier: Notifier;
  readonly log: Logger;
  readonly retry: RetryPolicy;
  /** How long a lease holds after its worker was last heard. */
  readonly leaseMs: number;
}

/** Runs one transition: everything that is a row in one transaction, and the wake-ups after its commit. */
export async function transition<T>(
  deps: Pick<TransitionDeps, "db" | "notifier" | "clock" | "random">,
  body: (trx: Transaction<Database>, wakeups: Wakeups) => Promise<T>,
): Promise<T> {
  const once = async (trx: Transaction<Database>) => {
    const collected = new Wakeups();
    return { result: await body(trx, collected), wakeups: collected };
  };
  const { result, wakeups } = await inTransaction(deps.db, once, deps);
  wakeups.send(deps.notifier);
  return result;
}
