import type { Finding, Outcome } from "./test-report.ts";

export interface Step {
  readonly name: string;
  readonly seconds: number;
  readonly outcome: Outcome;
}

export interface Summary {
  readonly total: Outcome;
  /** What failed beside the other tests and passed alone. */
  readonly unsteady: readonly Finding[];
  /** What this machine lacks. */
  readonly excuses: readonly string[];
}

/** Prints what a reader wants who looks at the end of the output alone. */
export function printSummary(steps: readonly Step[], { total, unsteady, excuses }: Summary): void {
  console.log("\n== steps");
  for (const line of stepTable(steps)) console.log(line);

  if (total.skipped.length > 0) console.log("\n== skipped");
  for (const excuse of total.skipped.some((one) => one.text === "") ? excuses : []) console.log(excuse);
  for (const { name, text } of total.skipped) console.log(text === "" ? `  ${name}` : `  ${name}: ${text}`);

  if (unsteady.length > 0) console.log("\n== unsteady: failed beside other tests, passed alone; look for the cause");
  printFindings("UNSTEADY", unsteady);
  if (total.failures.length > 0) console.log("\n== failed");
  printFindings("FAILED", total.failures);
}

function printFindings(word: string, findings: readonly Finding[]): void {
  for (const { name, text } of findings) console.log(`${word} ${name}\n${text.replaceAll(/^/gm, "    ")}\n`);
}

function stepTable(steps: readonly Step[]): string[] {
  const seconds = steps.reduce((sum, one) => sum + one.seconds, 0);
  const rows = [
    ["", "seconds", "passed", "failed", "skipped"],
    ...steps.map(({ name, seconds, outcome }) => [
      name,
      seconds.toFixed(1),
      ...[outcome.passed, outcome.failures.length, outcome.skipped.length].map(String),
    ]),
    ["together", seconds.toFixed(1), "", "", ""],
  ];
  const nameColumns = Math.max(...rows.map(([name]) => (name as string).length));
  return rows.map(([name, ...numbers]) =>
    [(name as string).padEnd(nameColumns), ...numbers.map((number) => number.padStart(9))].join("").trimEnd(),
  );
}
