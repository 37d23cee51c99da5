import type { Outcome } from "./test-report.ts";

export interface Step {
  readonly name: string;
  readonly seconds: number;
  readonly outcome: Outcome;
}

/** Prints what a reader wants who looks at the end of the output alone. */
export function printSummary(steps: readonly Step[], total: Outcome, excuses: readonly string[]): void {
  console.log("\n== steps");
  for (const line of stepTable(steps)) console.log(line);

  if (total.skipped.length > 0) console.log("\n== skipped");
  for (const excuse of total.skipped.some((one) => one.text === "") ? excuses : []) console.log(excuse);
  for (const { name, text } of total.skipped) console.log(text === "" ? `  ${name}` : `  ${name}: ${text}`);

  if (total.failures.length > 0) console.log("\n== failed");
  for (const { name, text } of total.failures) console.log(`FAILED ${name}\n${text.replaceAll(/^/gm, "    ")}\n`);
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
