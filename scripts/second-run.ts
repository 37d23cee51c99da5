/**
 * What failed in a step of verify is run once more when nothing else runs. A test of real processes can meet a machine
 * that stands still for seconds; what fails alone, too, is broken. That something failed at first is never hidden: it
 * is told at the end of verify, as what somebody must look at.
 */
import { type FileOutcome, type Finding, type Outcome, sumOutcomes } from "./test-report.ts";

/** Where more files fail, the cause is no single moment. */
export const FILES_AGAIN_MAX = 3;

/** The files to run again, relative to the repository. None where an error belongs to no file, or too many failed. */
export function filesToRunAgain(outcomes: readonly FileOutcome[]): string[] {
  const failed = outcomes.filter(({ failures }) => failures.length > 0).map(({ path }) => path);
  return failed.length > FILES_AGAIN_MAX || failed.includes("") ? [] : failed;
}

/** The step with what the second run found in place of the first, and what failed in the first alone. */
export function afterSecondRun(
  first: readonly FileOutcome[],
  second: readonly FileOutcome[],
): { readonly outcome: Outcome; readonly unsteady: readonly Finding[] } {
  const again = new Set(second.map(({ path }) => path));
  const found = sumOutcomes([...first.filter(({ path }) => !again.has(path)), ...second]);
  const failed = new Set(found.failures.map(({ name }) => name));
  const skipped = new Set(found.skipped.map(({ name }) => name));
  const gone = sumOutcomes(first).failures.filter(({ name }) => !failed.has(name));
  const notRun = gone.filter(({ name }) => skipped.has(name));
  const unsteady = gone.filter(({ name }) => !skipped.has(name));
  return { outcome: { ...found, failures: [...found.failures, ...notRun] }, unsteady };
}
