import { type DamagedNar, listRepairsDue, postponeRepair } from "../db/nar-repairs.ts";
import { repairPauseMs } from "../domain/nar-health.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { type NarRepairDeps, type RepairOutcome, repairNar } from "./nar-repair.ts";

/** Repairs at a time: each reads and writes one NAR in constant memory. */
const AT_ONCE = 4;
const CHUNK = 100;

/**
 * Repairs what is damaged and due, until nothing is or the signal is aborted. What cannot be repaired now is due again
 * later. Two servers that do so at once repair one NAR twice, and the second finds it sound.
 */
export async function repairDue(deps: NarRepairDeps, signal: AbortSignal): Promise<void> {
  const places = new Semaphore(AT_ONCE);
  while (!signal.aborted) {
    const due = await listRepairsDue(deps.db, CHUNK);
    if (due.length === 0) return;
    await Promise.all(
      due.map((row) => places.run(async () => (signal.aborted ? undefined : void (await attemptRepair(deps, row))))),
    );
  }
}

/** A repair that fails for a reason nobody foresaw must not hold up the others, nor be tried again at once. */
export async function attemptRepair(deps: NarRepairDeps, row: DamagedNar): Promise<RepairOutcome> {
  try {
    return await repairNar(deps, row);
  } catch (error) {
    deps.log.warn("a damaged NAR could not be repaired", { objectKey: row.object_key, error });
    const problem = "it failed for a reason that stands in the server's log";
    await postponeRepair(deps.db, { objectKey: row.object_key }, { problem, pauseMs: repairPauseMs(row.attempts + 1) });
    return { problem };
  }
}
