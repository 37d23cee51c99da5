import { type Clock, MINUTE, SECOND, sleep } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { BuildRequestDeps } from "#core/services/build-requests-deps.ts";
import { tidyBuildRequests } from "#core/services/build-requests-tidy.ts";

const LOOK_INTERVAL_MS: number = 10 * MINUTE;
const PAUSE_MS: number = SECOND;

/** Forgets what people sent to have it built, once its time is over, until it is stopped. It never rejects. */
export async function keepTidyingSources(
  deps: Pick<BuildRequestDeps, "db" | "blobs"> & { readonly clock: Clock; readonly log: Logger },
  stopping: AbortSignal,
): Promise<void> {
  while (!stopping.aborted) {
    const more = await tidyBuildRequests(deps).catch((error: unknown) => {
      deps.log.warn("old build requests were not tidied yet", { error });
      return false;
    });
    await sleep(deps.clock, more ? PAUSE_MS : LOOK_INTERVAL_MS, stopping);
  }
}
