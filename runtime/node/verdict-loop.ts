import { SECOND, sleep } from "#core/lib/clock.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { settleVerdicts } from "#core/services/verdict.ts";

const LOOK_INTERVAL_MS: number = 5 * SECOND;
/** Between two rounds while there are more: reading logs must not hold up builds. */
const PAUSE_MS: number = SECOND;

/** Writes down why evaluations that ended were red, until it is stopped. It never rejects. */
export async function keepSettlingVerdicts(
  deps: Parameters<typeof settleVerdicts>[0] & Pick<ServiceDeps, "clock">,
  stopping: AbortSignal,
): Promise<void> {
  while (!stopping.aborted) {
    const more = await settleVerdicts(deps, stopping).catch((error: unknown) => {
      deps.log.warn("verdicts of evaluations were not written down yet", { error });
      return false;
    });
    await sleep(deps.clock, more ? PAUSE_MS : LOOK_INTERVAL_MS, stopping);
  }
}
