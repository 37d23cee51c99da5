import type { Kysely } from "kysely";
import { countUnflushedServers, databaseTime, recordUsesFlushed } from "../db/retention-sweeps.ts";
import type { Database } from "../db/schema.ts";
import { type Clock, MINUTE, sleep } from "../lib/clock.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { FlushOptions, PathUses } from "./cache-uses.ts";

/** Longer than the pause of the flush that each server makes anyway. */
const WAIT_MS: number = 2 * MINUTE;
const LOOK_INTERVAL_MS = 200;

/** Writes down what this server was asked for, and that it has. Throws when the database cannot take it. */
export async function flushOwnUses(
  { db, uses }: { readonly db: Kysely<Database>; readonly uses: Pick<PathUses, "flush"> },
  serverId: string,
  options: FlushOptions = {},
): Promise<void> {
  const since = await databaseTime(db);
  await uses.flush(options);
  await recordUsesFlushed(db, serverId, since);
}

/**
 * Has every server write down what it was asked for until now. False when one has not done so in time: nothing may be
 * deleted for lack of use then.
 */
export async function flushUsesEverywhere(
  { db, notifier, clock }: { readonly db: Kysely<Database>; readonly notifier: Notifier; readonly clock: Clock },
  signal: AbortSignal,
): Promise<boolean> {
  const since = await databaseTime(db);
  notifier.notify("uses", "all");
  for (const end = clock.monotonic() + WAIT_MS; !signal.aborted; ) {
    if ((await countUnflushedServers(db, since)) === 0) return true;
    if (clock.monotonic() > end) return false;
    await sleep(clock, LOOK_INTERVAL_MS, signal);
  }
  return false;
}
