import { SECOND, sleep } from "#core/lib/clock.ts";
import { tellBuilds } from "#core/services/action-builds.ts";
import { type DeliveryDeps, deliverActions, TIDY_INTERVAL_MS, tidyDeliveries } from "#core/services/action-delivery.ts";
import type { ServiceDeps } from "#core/services/deps.ts";

export type ActionLoopDeps = DeliveryDeps & Pick<ServiceDeps, "random">;

const LOOK_INTERVAL_MS: number = 2 * SECOND;
const FAILED_MS: number = 10 * SECOND;

/** Tells what happened to whoever wants to know, until it is stopped. It never rejects. */
export async function keepActing(deps: ActionLoopDeps, signal: AbortSignal): Promise<void> {
  await Promise.all([
    repeat(deps, signal, () => deliverActions(deps)),
    repeat(deps, signal, () => tellBuilds(deps)),
    keepTidying(deps, signal),
  ]);
}

/** The work says whether there may be more of it at once. Idle it is a look into an empty index. */
async function repeat(deps: ActionLoopDeps, signal: AbortSignal, work: () => Promise<boolean>): Promise<void> {
  while (!signal.aborted) {
    const more = await work().catch((error: unknown) => {
      deps.log.error("actions were not looked at; it is tried again", { error });
      return null;
    });
    if (!more) await sleep(deps.clock, more === null ? FAILED_MS : LOOK_INTERVAL_MS, signal);
  }
}

async function keepTidying(deps: ActionLoopDeps, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await tidyDeliveries(deps).catch((error: unknown) => {
      deps.log.warn("old deliveries were not removed; it is tried again", { error });
    });
    await sleep(deps.clock, TIDY_INTERVAL_MS, signal);
  }
}
