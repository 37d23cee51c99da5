import { BatchRefusedError } from "./link.ts";

const ROUNDS_MAX = 3;

/**
 * Runs a whole report again when something that it rested on was gone by the time it was recorded: what was known to be
 * there is asked anew then, and what has vanished is reported with all it takes to build it. What was recorded before
 * is recorded already, which changes nothing.
 */
export async function reportAgain<T>(report: () => Promise<T>): Promise<T> {
  for (let round = 1; ; round++) {
    try {
      return await report();
    } catch (error) {
      if (!(error instanceof BatchRefusedError && error.isOutdated) || round === ROUNDS_MAX) throw error;
    }
  }
}
