import { MINUTE, SECOND, sleep } from "#core/lib/clock.ts";
import { type KeyWalkDeps, walkKeys } from "#core/services/key-rotation-walk.ts";

const LOOK_INTERVAL_MS: number = 5 * SECOND;
const FAILED_MS: number = MINUTE;

/** Signs anew what keys of caches are to sign, until it is stopped. Idle it is a look into an empty index. */
export async function keepWalkingKeys(deps: KeyWalkDeps, stopping: AbortSignal): Promise<void> {
  while (!stopping.aborted) {
    const well = await walkKeys(deps, stopping).catch((error: unknown) => {
      deps.log.error("keys of caches were not looked at; it is tried again", { error });
      return false;
    });
    await sleep(deps.clock, well ? LOOK_INTERVAL_MS : FAILED_MS, stopping);
  }
}
