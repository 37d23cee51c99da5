import { MINUTE, sleep } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import { CacheSizes } from "#core/services/cache-sizes.ts";
import { flushOwnUses } from "#core/services/uses-flush.ts";
import type { Composition } from "./compose.ts";
import type { Front } from "./front.ts";

const INTERVAL_MS: number = MINUTE;

/**
 * Writes down which paths were asked for, which NARs were right, how much was sent and how much caches hold: from time
 * to time, before each sweep, and once more at the end, since retention counts on it.
 */
export async function keepFlushing(
  {
    hub,
    uses,
    proofs,
    front,
  }: Pick<Composition, "uses" | "proofs"> & { readonly hub: FlushDeps; readonly front: Pick<Front, "traffic"> },
  log: Logger,
  stopping: AbortSignal,
): Promise<void> {
  const sizes = new CacheSizes(hub.db);
  let wake = new AbortController();
  const unsubscribe = hub.notifier.subscribe("uses", () => wake.abort());
  const tell = (what: string) => (error: unknown) => log.warn(`${what} was not recorded yet`, { error });
  const flush = async (hurry: AbortSignal): Promise<void> => {
    await flushOwnUses({ db: hub.db, uses }, hub.server.id, { hurry }).catch(tell("which paths were used"));
    await proofs.flush().catch(tell("which NARs were right"));
    await front.traffic.flush().catch(tell("how much was sent"));
    await sizes.note().catch(tell("how much caches hold"));
  };
  while (!stopping.aborted) {
    await sleep(hub.clock, INTERVAL_MS, AbortSignal.any([stopping, wake.signal]));
    const woken = wake.signal;
    wake = new AbortController();
    // A sweep waits for it: the one that asked, or one that begins meanwhile.
    await flush(AbortSignal.any([stopping, woken, wake.signal]));
  }
  await uses.flush({ counts: true }).catch(tell("how often paths were used"));
  unsubscribe();
}

type FlushDeps = Pick<Composition["hub"], "db" | "notifier" | "clock" | "server">;
