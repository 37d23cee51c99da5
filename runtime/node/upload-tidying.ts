import { HOUR, MINUTE, SECOND, sleep } from "#core/lib/clock.ts";
import type { UploadDeps } from "#core/services/cache-upload.ts";
import { dropAbandonedUploads, type TidyLimits, tidyUploads } from "#core/services/cache-upload-tidy.ts";

const LOOK_INTERVAL_MS: number = 10 * MINUTE;
const ABANDONED_INTERVAL_MS: number = 12 * HOUR;
const PAUSE_MS: number = SECOND;

/** Forgets uploads that nobody goes on with, until it is stopped. It never rejects. */
export async function keepTidyingUploads(
  deps: Pick<UploadDeps, "db" | "blobs" | "log" | "clock">,
  limits: TidyLimits,
  stopping: AbortSignal,
): Promise<void> {
  let nextAbandonedAt = 0;
  while (!stopping.aborted) {
    const more = await tidyUploads(deps, limits).catch((error: unknown) => {
      deps.log.warn("old uploads were not tidied yet", { error });
      return false;
    });
    if (deps.clock.monotonic() >= nextAbandonedAt) {
      nextAbandonedAt = deps.clock.monotonic() + ABANDONED_INTERVAL_MS;
      await dropAbandonedUploads(deps).catch((error: unknown) => {
        deps.log.warn("abandoned uploads were not dropped yet", { error });
      });
    }
    await sleep(deps.clock, more ? PAUSE_MS : LOOK_INTERVAL_MS, stopping);
  }
}
