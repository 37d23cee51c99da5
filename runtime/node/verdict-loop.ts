import { SECOND, sleep } from "#core/lib/clock.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { noteMissingVerdicts, settleVerdicts } from "#core/services/verdict.ts";

const LOOK_INTERVAL_MS: number = 5 * SECOND;
/** Between two rounds while there are more: reading logs must not hold up builds. */
const PAUSE_MS: number = SECOND;

/** Writes down why evaluations that ended were red, until it is stopped. It never rejects. */
export async function keepSettlingVerdicts(
  deps: Parameters<typeof settleVerdicts>[0] & Pick<ServiceDeps, "clock">,
  stopping: AbortSignal,
): Promise<void> {
  let noted = false;
  while (!stopping.aborted) {
    const round = async () => {
      if (!noted) await noteMissingVerdicts(deps, stopping);
      noted = true;
      return await settleVerdicts(deps, stopping);
    };
    const more = await round().catch((error: unknown) => {
      deps.log.warn("verdicts of evaluations were not written down yet", { error });
      return false;
    });
    await sleep(deps.clock, more ? PAUSE_MS : LOOK_INTERVAL_MS, stopping);
  }
}
