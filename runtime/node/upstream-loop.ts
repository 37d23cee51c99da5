import { MINUTE, sleep } from "#core/lib/clock.ts";
import { type UpstreamLossDeps, unmarkComplete } from "#core/services/upstream-losses.ts";
import { tidyUpstreams } from "#core/services/upstream-review.ts";
import type { Upstreams } from "#core/services/upstreams.ts";
import type { HubDeps } from "./hub/deps.ts";

const INTERVAL_MS = MINUTE;
/** Of these, one asks upstreams again for what is lacking and removes what counts no more. */
const ROUNDS_A_REVIEW = 60;

/** Answers of upstreams that count no more are no reason to grow; what is back is offered again within a minute. */
export async function keepUpstreams(
  deps: UpstreamLossDeps & Pick<HubDeps, "clock"> & { readonly upstreams: Upstreams },
  signal: AbortSignal,
): Promise<void> {
  for (let round = 1; !signal.aborted; round++) {
    await sleep(deps.clock, INTERVAL_MS, signal);
    if (signal.aborted) return;
    try {
      if (round % ROUNDS_A_REVIEW === 0) await tidyUpstreams(deps, deps.upstreams);
      else await unmarkComplete(deps);
    } catch (error) {
      deps.log.warn("what is known of upstreams was not tidied", { error });
    }
  }
}
