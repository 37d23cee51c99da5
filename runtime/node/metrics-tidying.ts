import type { Kysely } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { MINUTE, sleep, systemClock } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import { tidyMetricCounts } from "#core/services/instance-metrics.ts";

/** A busy instance ends some hundred builds meanwhile. */
const INTERVAL_MS: number = MINUTE;

/** Folds what was counted, until it is stopped. It never rejects. */
export async function keepTidyingMetrics(
  deps: { readonly db: Kysely<Database>; readonly log: Logger },
  stopping: AbortSignal,
): Promise<void> {
  while (!stopping.aborted) {
    await tidyMetricCounts(deps, stopping).catch((error: unknown) => {
      deps.log.warn("what was counted was not folded yet", { error });
    });
    await sleep(systemClock, INTERVAL_MS, stopping);
  }
}
