import { nextSweepMs, SweepKind } from "#core/db/retention-sweeps.ts";
import { DAY, MINUTE, sleep } from "#core/lib/clock.ts";
import type { RetentionDeps } from "#core/services/retention-deps.ts";
import { sweep, sweepFullCaches, sweepStorage, tidyRetention } from "#core/services/retention-sweep.ts";

const LOOK_INTERVAL_MS: number = MINUTE;
const STORAGE_INTERVAL_MS: number = DAY;

/**
 * Sweeps every `intervalMs`, counted from the end of the last sweep of any server, and in between whenever a cache is
 * nearly full; once a day it looks through the storage. It never rejects.
 */
export async function keepSweeping(
  deps: RetentionDeps,
  { intervalMs, signal }: { readonly intervalMs: number; readonly signal: AbortSignal },
): Promise<void> {
  const tried = new Map<string, number>();
  const work = [
    async () => {
      if ((await nextSweepMs(deps.db, SweepKind.Rows, intervalMs)) <= 0) await sweep(deps, signal);
      else await sweepFullCaches(deps, signal, tried);
    },
    async () => {
      if ((await nextSweepMs(deps.db, SweepKind.Objects, STORAGE_INTERVAL_MS)) <= 0) await sweepStorage(deps, signal);
    },
    () => tidyRetention(deps, signal),
  ];
  while (!signal.aborted) {
    for (const part of work) {
      await part().catch((error: unknown) => {
        deps.log.error("what nothing keeps was not deleted whole; it goes on in a minute", { error });
      });
    }
    await sleep(deps.clock, LOOK_INTERVAL_MS, signal);
  }
}
