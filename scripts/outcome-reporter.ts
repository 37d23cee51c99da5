/** The reporter of verify: writes an `Outcome` as JSON to the file that GRADIENT_TEST_OUTCOME names. */
import { writeFileSync } from "node:fs";
import { type Outcome, outcomeOf, type ReportedModule } from "./test-report.ts";

export default class OutcomeReporter {
  onTestRunEnd(modules: readonly ReportedModule[], unhandled: readonly { message: string }[]): void {
    const outcome: Outcome = outcomeOf(modules, unhandled);
    writeFileSync(process.env.GRADIENT_TEST_OUTCOME as string, JSON.stringify(outcome));
  }
}
