/**
 * `npm run verify`: everything that must hold before a change goes in. Prints each step with its time; the last line of
 * stdout is the sum, `N passed, N failed` (and `, N skipped`), in tests; a step that is no test run counts as one test.
 * Ends with 1 when anything failed. With CI=true a test may be skipped only for a reason that lies in the machine.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureTools } from "./install-tools.ts";
import { ROOT, readSourceFiles } from "./source-files.ts";
import { groupTests, type TestGroup } from "./test-groups.ts";
import { type Counts, countTests, judgeSkipped, summaryLine } from "./test-report.ts";
import { toolPath } from "./tools.ts";

/** The longest step, the end-to-end tests on two slow cores, takes a few minutes. */
const STEP_MINUTES_MAX = 30;

const PASSED: Counts = { passed: 1, failed: 0, skipped: [] };
const FAILED: Counts = { passed: 0, failed: 1, skipped: [] };

const CHECKS: readonly (readonly [name: string, command: string, ...args: string[]])[] = [
  ["types of core", "tsc", "-p", "tsconfig.core.json"],
  ["types of handlers", "tsc", "-p", "tsconfig.handlers.json"],
  ["types of everything", "tsc", "-p", "tsconfig.json"],
  ["lint and format", "biome", "check", "."],
  ["layers", process.execPath, "scripts/check-layers.ts"],
  ["neutral bundle", process.execPath, "scripts/neutral-bundle.ts"],
];

/** Null when the command was ended by a signal or did not start. Both of its outputs go to ours. */
function run(command: string, args: readonly string[]): Promise<number | null> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, PATH: toolPath() },
      stdio: ["ignore", "inherit", "inherit"],
      timeout: STEP_MINUTES_MAX * 60_000,
    });
    child.on("error", (error) => {
      console.log(`${command} did not start: ${error.message}`);
      resolve(null);
    });
    child.on("exit", (code) => resolve(code));
  });
}

async function runTests({ name, files }: TestGroup): Promise<Counts> {
  const folder = mkdtempSync(join(tmpdir(), "gradient-verify-"));
  try {
    const report = join(folder, "report.json");
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    // Whole systems share the processor badly: one at a time, their timeouts mean something.
    const pace = name === "end to end" ? ["--no-file-parallelism"] : [];
    const exitCode = await run("vitest", ["run", ...reporters, ...pace, ...files.map((file) => join(ROOT, file))]);
    return countTests(existsSync(report) ? readFileSync(report, "utf8") : null, exitCode);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function step(name: string, action: () => Promise<Counts>): Promise<Counts> {
  console.log(`\n== ${name}`);
  const started = performance.now();
  const counts = await action();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`== ${name}: ${counts.failed === 0 ? "ok" : "FAILED"} after ${seconds} s (${summaryLine(counts)})`);
  return counts;
}

function printSkipped(skipped: readonly string[], excuses: readonly string[], judged: Counts): void {
  if (skipped.length > 0) console.log("\n== skipped");
  for (const excuse of excuses) console.log(excuse);
  for (const name of skipped) console.log(`  ${name.replace(`${ROOT}/`, "")}`);
  if (judged.skipped.length === skipped.length) return;
  console.log("Everything the tests need is on this machine, so on CI none of them may be skipped: let them run.");
}

let excuses: readonly string[] = [];
const results: Counts[] = [];
results.push(
  await step("tools", async () => {
    excuses = ensureTools((line) => console.log(line)).excuses;
    return PASSED;
  }),
);
for (const [name, command, ...args] of CHECKS) {
  results.push(await step(name, async () => ((await run(command, args)) === 0 ? PASSED : FAILED)));
}
for (const group of groupTests(readSourceFiles().keys())) {
  results.push(await step(`${group.name} tests`, () => runTests(group)));
}

const total = results.reduce((sum, one) => ({
  passed: sum.passed + one.passed,
  failed: sum.failed + one.failed,
  skipped: [...sum.skipped, ...one.skipped],
}));
const judged = judgeSkipped(total, { ci: process.env.CI === "true", excuses });
printSkipped(total.skipped, excuses, judged);
process.exitCode = judged.failed === 0 ? 0 : 1;
console.log(`\n${summaryLine(judged)}`);
