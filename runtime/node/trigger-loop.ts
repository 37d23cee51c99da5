import { SECOND, sleep } from "#core/lib/clock.ts";
import { type TriggerDeps, TriggerLooks } from "#core/services/triggers-run.ts";

const LOOK_INTERVAL_MS: number = 5 * SECOND;

/** Looks at repositories when triggers are due, until it is stopped. It never rejects. */
export async function keepFiring(deps: TriggerDeps, signal: AbortSignal): Promise<void> {
  const looks = new TriggerLooks(deps, signal);
  while (!signal.aborted) {
    const all = await looks.begin().catch((error: unknown) => {
      deps.log.warn("triggers were not looked at; it is tried again", { error });
      return true;
    });
    if (all) await sleep(deps.clock, LOOK_INTERVAL_MS, signal);
    else await looks.oneDone();
  }
  await looks.allDone();
}
