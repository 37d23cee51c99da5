/**
 * `npm run verify`: everything that must hold before a change goes in. Prints each step with its time, at the end a
 * table, what was skipped and what failed. The last line of stdout is the sum in tests, `N passed, N failed` (and
 * `, N skipped`); a step that is no test run counts as one test. Ends with 1 when anything failed. With CI=true a test
 * may be skipped only for a reason that lies in the machine.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { ensureTools } from "./install-tools.ts";
import { ensureNewerNix, NEWER_SUITES } from "./newer-nix.ts";
import { afterSecondRun, filesToRunAgain } from "./second-run.ts";
import { ROOT, readSourceFiles } from "./source-files.ts";
import { DATABASE_TESTS, NIX_TESTS, type TestGroup, testsOf } from "./test-groups.ts";
import {
  type FileOutcome,
  type Finding,
  failedStep,
  judgeSkipped,
  type Outcome,
  PASSED,
  readOutcomes,
  summaryLine,
  sumOutcomes,
} from "./test-report.ts";
import { OLDEST_POSTGRES, toolPath } from "./tools.ts";
import { printSummary, type Step } from "./verify-summary.ts";

/** The longest one takes ten minutes on two slow cores. */
const COMMAND_MINUTES_MAX = 40;

const CHECKS: readonly (readonly [name: string, command: string, ...args: string[]])[] = [
  ["types of core", "tsc", "-p", "tsconfig.core.json"],
  ["types of handlers", "tsc", "-p", "tsconfig.handlers.json"],
  ["types of everything", "tsc", "-p", "tsconfig.json"],
  ["lint and format", "biome", "check", "."],
  ["layers", process.execPath, "scripts/check-layers.ts"],
  ["neutral bundle", process.execPath, "scripts/neutral-bundle.ts"],
];

/** Exit code of scripts/npm-hashes.ts. */
const NPM_HASHES_CANNOT_ASK = 3;

type Environment = Readonly<Record<string, string>>;

interface Ended {
  /** Null when the command was ended by a signal or did not start. */
  readonly exitCode: number | null;
  /** Of both of its outputs; they go to ours, too. */
  readonly output: string;
}

/** Whether outputs are passed on as they come, or at the end, for what runs beside something else. */
type Showing = "live" | "whole";

function run(
  command: string,
  args: readonly string[],
  environment: Environment = {},
  showing: Showing = "live",
): Promise<Ended> {
  return new Promise((resolve) => {
    const env = { ...process.env, PATH: toolPath(), ...environment };
    const options = { cwd: ROOT, env, timeout: COMMAND_MINUTES_MAX * 60_000 };
    const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const [stream, ours] of [
      [child.stdout, process.stdout],
      [child.stderr, process.stderr],
    ] as const) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
        if (showing === "live") ours.write(text);
      });
    }
    child.on("error", (error) => resolve({ exitCode: null, output: `${command} did not start: ${error.message}` }));
    child.on("close", (exitCode) => {
      if (showing === "whole") process.stdout.write(output);
      resolve({ exitCode, output });
    });
  });
}

/** What `runTests` ran, for a second run of what failed. */
interface TestRun {
  readonly step: string;
  readonly environment: Environment;
  readonly outcomes: readonly FileOutcome[];
}

const testRuns: TestRun[] = [];

/** `selection`: files, or options of vitest. */
async function runTests(
  step: string,
  selection: readonly string[],
  environment: Environment = {},
  showing: Showing = "live",
): Promise<Outcome> {
  const outcomes = await testOutcomes(selection, environment, showing);
  testRuns.push({ step, environment, outcomes });
  return sumOutcomes(outcomes);
}

async function testOutcomes(
  selection: readonly string[],
  environment: Environment,
  showing: Showing,
): Promise<FileOutcome[]> {
  const folder = mkdtempSync(join(tmpdir(), "gradient-verify-"));
  try {
    const path = join(folder, "outcome.json");
    const reporters = ["--reporter=default", "--reporter=./scripts/outcome-reporter.ts"];
    const set = { ...environment, GRADIENT_TEST_OUTCOME: path };
    const { exitCode } = await run("vitest", ["run", ...reporters, ...selection], set, showing);
    return readOutcomes(existsSync(path) ? readFileSync(path, "utf8") : null, exitCode);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const steps: Step[] = [];

/** Everything else has ended by now. Puts what was found in the place of what the steps found. */
async function runFailedAgain(): Promise<Finding[]> {
  const unsteady: Finding[] = [];
  for (const { step: name, environment, outcomes } of testRuns) {
    const files = filesToRunAgain(outcomes);
    if (files.length === 0) continue;
    console.log(`\n== once more, alone: ${files.join(", ")} of ${name}`);
    const paths = files.map((path) => join(ROOT, path));
    const after = afterSecondRun(outcomes, await testOutcomes(paths, environment, "live"));
    const index = steps.findIndex((one) => one.name === name);
    steps[index] = { ...(steps[index] as Step), outcome: after.outcome };
    unsteady.push(...after.unsteady);
  }
  return unsteady;
}

async function step(name: string, action: () => Promise<Outcome>): Promise<void> {
  console.log(`\n== ${name}`);
  const started = performance.now();
  const outcome = await action().catch((error: Error) => failedStep(name, error.message));
  const seconds = (performance.now() - started) / 1000;
  console.log(`== ${name}: ${outcome.failures.length === 0 ? "ok" : "FAILED"} after ${seconds.toFixed(1)} s`);
  steps.push({ name, seconds, outcome });
}

function skippedGroup(name: string, reason: string): Outcome {
  console.log(`skipped: ${reason}`);
  return { passed: 0, failures: [], skipped: [{ name, text: reason }] };
}

function groupFiles(group: TestGroup): string[] {
  return testsOf(group, readSourceFiles()).map((path) => join(ROOT, path));
}

/** Whether Nix finds what npm installs. Without a registry only whether it is of this lock file. */
async function verifyNpmHashes(): Promise<void> {
  await step("npm hashes", async () => {
    const { exitCode, output } = await run(process.execPath, ["scripts/npm-hashes.ts", "--check"]);
    if (exitCode === NPM_HASHES_CANNOT_ASK) return skippedGroup("npm hashes of the installed packages", output.trim());
    return exitCode === 0 ? PASSED : failedStep("npm hashes", output);
  });
}

async function verifyNewerNix(suite: string): Promise<void> {
  const name = `tests on the Nix of Debian ${suite}`;
  await step(name, async () => {
    const nix = ensureNewerNix(suite, (line) => console.log(line));
    if (!nix.ok) return skippedGroup(name, nix.reason);
    console.log(`Nix ${nix.version}`);
    // The tests take it from the first; the programs they start find it by the second.
    const environment = { GRADIENT_TEST_NIX_BIN: nix.bin, PATH: [nix.bin, toolPath()].join(delimiter) };
    return await runTests(name, groupFiles(NIX_TESTS), environment, "whole");
  });
}

async function verifyOldestPostgres(): Promise<void> {
  const name = "tests on PostgreSQL 15";
  await step(name, async () => {
    if (!existsSync(OLDEST_POSTGRES)) return skippedGroup(name, `${OLDEST_POSTGRES} is not there`);
    return await runTests(name, groupFiles(DATABASE_TESTS), { GRADIENT_TEST_POSTGRES: "system" }, "whole");
  });
}

const started = performance.now();
let excuses: readonly string[] = [];
await step("tools", async () => {
  excuses = ensureTools((line) => console.log(line)).excuses;
  return PASSED;
});
for (const [name, command, ...args] of CHECKS) {
  await step(name, async () => {
    const { exitCode, output } = await run(command, args);
    return exitCode === 0 ? PASSED : failedStep(name, output);
  });
}
await verifyNpmHashes();
const verifyProject = (project: string) =>
  step(`tests of ${project}`, () => runTests(`tests of ${project}`, ["--project", project]));
await verifyProject("parts");
// Whole systems mostly wait, for each other and for what their tests let pass.
await Promise.all([
  verifyProject("systems"),
  (async () => {
    for (const suite of NEWER_SUITES) await verifyNewerNix(suite);
    await verifyOldestPostgres();
  })(),
]);

const unsteady = await runFailedAgain();
const total = judgeSkipped(sumOutcomes(steps.map((one) => one.outcome)), { ci: process.env.CI === "true", excuses });
printSummary(steps, { total, unsteady, excuses });
console.log(`\nIt took ${((performance.now() - started) / 1000).toFixed(0)} s.`);
process.exitCode = total.failures.length === 0 ? 0 : 1;
console.log(`\n${summaryLine(total)}`);
