import { MINUTE, sleep, systemClock } from "#core/lib/clock.ts";
import { type DebugIndexDeps, indexDebugInfo } from "#core/services/debug-info.ts";

/** Debuggers are started by people: nobody waits for what was built a minute ago. */
const INTERVAL_MS: number = MINUTE;

/** Indexes debug information that came in, until it is stopped. It never rejects. */
export async function keepIndexingDebugInfo(deps: DebugIndexDeps, stopping: AbortSignal): Promise<void> {
  while (!stopping.aborted) {
    await indexDebugInfo(deps, stopping).catch((error: unknown) => {
      deps.log.warn("debug information was not indexed yet", { error });
    });
    await sleep(systemClock, INTERVAL_MS, stopping);
  }
}
