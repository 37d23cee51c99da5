import { isRefusedForGood } from "#core/db/failure.ts";
import { endRefusedAttempt } from "#core/services/transitions/refused.ts";
import type { HubDeps } from "./deps.ts";

/**
 * Records what a worker reports of an attempt. What the database refuses for what it says, it would refuse whenever it
 * is sent again: the attempt fails with the reason instead, and the report counts as dealt with. Any other error is
 * thrown: the worker sends the report again.
 */
export async function recordOrFail(deps: HubDeps, attemptId: string, record: () => Promise<unknown>): Promise<void> {
  try {
    await record();
  } catch (error) {
    if (!isRefusedForGood(error)) throw error;
    deps.log.error("a worker's report cannot be recorded; its attempt fails", { attempt: attemptId, error });
    await endRefusedAttempt(deps, attemptId, (error as Error).message);
  }
}
