/** The reporter of verify: writes the `FileOutcome`s of a run as JSON to the file that GRADIENT_TEST_OUTCOME names. */
import { writeFileSync } from "node:fs";
import { outcomesOf, type ReportedModule } from "./test-report.ts";

export default class OutcomeReporter {
  onTestRunEnd(modules: readonly ReportedModule[], unhandled: readonly { message: string }[]): void {
    writeFileSync(process.env.GRADIENT_TEST_OUTCOME as string, JSON.stringify(outcomesOf(modules, unhandled)));
  }
}
