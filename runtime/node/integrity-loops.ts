import { MINUTE, SECOND, sleep } from "#core/lib/clock.ts";
import { Pace } from "#core/lib/pace.ts";
import { keepRunningTasks, type TaskRun } from "#core/services/admin-task-run.ts";
import { type RepairTaskDeps, repairTask } from "#core/services/integrity-repair.ts";
import { verifyTask } from "#core/services/integrity-verify.ts";
import { withholdReferrers } from "#core/services/nar-referrers.ts";
import { repairDue } from "#core/services/nar-repairs.ts";
import { msUntilScrub, scrubDue } from "#core/services/scrub.ts";
import { scrubRowsDaily } from "#core/services/scrub-rows.ts";
import { unmarkComplete } from "#core/services/upstream-losses.ts";
import type { IntegritySettings } from "./config/integrity.ts";
import { Wakeable } from "./wakeable.ts";

const SCRUB_LOOK_MS_MIN: number = 10 * SECOND;
const SCRUB_LOOK_MS_MAX: number = 10 * MINUTE;
const ROWS_LOOK_MS: number = 10 * MINUTE;
/** After a failure, of the store or of the database. */
const FAILED_MS: number = MINUTE;
/** What a lost wake-up costs. */
const REPAIR_LOOK_MS: number = 30 * SECOND;
const TASK_LOOK_MS: number = 10 * SECOND;

/**
 * Proves what is stored, repairs what is damaged, and does what superusers ask for, `tasks` of others among it, until
 * it is stopped.
 */
export async function keepIntegrity(
  deps: Omit<RepairTaskDeps, "workersWaitMs">,
  settings: IntegritySettings,
  { tasks, signal }: { readonly tasks: Readonly<Record<string, TaskRun>>; readonly signal: AbortSignal },
): Promise<void> {
  await Promise.all([
    keepScrubbing(deps, settings, signal),
    keepCheckingRows(deps, signal),
    keepRepairing(deps, signal),
    keepDoingTasks({ ...deps, workersWaitMs: REPAIR_LOOK_MS }, tasks, signal),
  ]);
}

type Deps = Omit<RepairTaskDeps, "workersWaitMs">;

/** When nothing is due it looks once in ten minutes. */
async function keepScrubbing(deps: Deps, settings: IntegritySettings, signal: AbortSignal): Promise<void> {
  const { scrubBytesPerSecond, scrubIntervalMs: intervalMs } = settings;
  if (scrubBytesPerSecond === 0) return;
  const pace = new Pace(deps.clock, scrubBytesPerSecond);
  while (!signal.aborted) {
    let pauseMs = FAILED_MS;
    try {
      await scrubDue(deps, { pace, intervalMs }, signal);
      const untilMs = (await msUntilScrub(deps, intervalMs)) ?? SCRUB_LOOK_MS_MAX;
      pauseMs = Math.min(Math.max(untilMs, SCRUB_LOOK_MS_MIN), SCRUB_LOOK_MS_MAX);
    } catch (error) {
      deps.log.error("stored NARs could not be verified; it is tried again", { error });
    }
    await sleep(deps.clock, pauseMs, signal);
  }
}

async function keepCheckingRows(deps: Deps, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const found = await scrubRowsDaily(deps, signal);
      if (found) deps.log.info("rows of stored NARs were compared with what the store lists", { ...found });
    } catch (error) {
      deps.log.error("rows of stored NARs could not be compared with the store; it is tried again", { error });
    }
    await sleep(deps.clock, ROWS_LOOK_MS, signal);
  }
}

async function keepRepairing(deps: Deps, signal: AbortSignal): Promise<void> {
  using damage = new Wakeable(deps, "damage");
  while (!signal.aborted) {
    const begunMs = deps.clock.monotonic();
    let pauseMs = REPAIR_LOOK_MS;
    try {
      await withholdReferrers(deps);
      await repairDue(deps, signal);
      await unmarkComplete(deps);
    } catch (error) {
      deps.log.error("damaged NARs could not be repaired; it is tried again", { error });
      pauseMs = FAILED_MS;
    }
    // What comes in a burst is looked at together, however long each look takes.
    await sleep(deps.clock, Math.max(SECOND, deps.clock.monotonic() - begunMs), signal);
    await damage.wait(pauseMs, signal);
  }
}

async function keepDoingTasks(
  deps: RepairTaskDeps,
  others: Readonly<Record<string, TaskRun>>,
  signal: AbortSignal,
): Promise<void> {
  using asked = new Wakeable(deps, "task");
  const tasks = { ...others, verify: verifyTask(deps), repair: repairTask(deps) };
  await keepRunningTasks({ ...deps, tasks }, () => asked.wait(TASK_LOOK_MS, signal), signal);
}
