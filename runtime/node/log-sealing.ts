import { MINUTE, SECOND, sleep } from "#core/lib/clock.ts";
import { type LogSealDeps, sealEndedLogs } from "#core/services/build-logs-seal.ts";

const LOOK_INTERVAL_MS: number = MINUTE;
/** Between two rounds while there are more: reading and compressing logs must not hold up builds. */
const PAUSE_MS: number = SECOND;

/** Moves the logs of ended builds into the blob store, until it is stopped. It never rejects. */
export async function keepSealingLogs(deps: LogSealDeps, stopping: AbortSignal): Promise<void> {
  while (!stopping.aborted) {
    const more = await sealEndedLogs(deps, stopping).catch((error: unknown) => {
      deps.log.warn("logs were not moved to the storage yet", { error });
      return false;
    });
    await sleep(deps.clock, more ? PAUSE_MS : LOOK_INTERVAL_MS, stopping);
  }
}
