import { forgetOldHistory, recordHistory } from "../../db/build-history.ts";
import { endDrainingOfFormerServers } from "../../db/scheduler-state.ts";
import { SECOND } from "../../lib/clock.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import { raisePriorities } from "./prioritize.ts";
import { endUnanswered } from "./unanswered.ts";

/** Longer than a transaction that ends builds takes. */
const HISTORY_LAG_MS: number = 10 * SECOND;
/** Of more builds in one interval the newest say enough. */
const HISTORY_BUILDS_MAX = 2_000;

/** What the scheduler sees to every few seconds, beside giving out what is ready. */
export async function tendSchedule(deps: TransitionDeps): Promise<void> {
  if (await endDrainingOfFormerServers(deps.db)) {
    deps.log.info("the instance drains no more: its servers were restarted");
    deps.notifier.notify("work", "all");
  }
  await endUnanswered(deps);
  await raisePriorities(deps);
  await transition(deps, (trx) => recordHistory(trx, { lagMs: HISTORY_LAG_MS, limit: HISTORY_BUILDS_MAX }));
  await forgetOldHistory(deps.db);
}
