import { parseArgs } from "node:util";
import { startTestPostgres } from "../support/postgres-server.ts";
import beginRun from "../support/run-folder.ts";
import { withTemporaryFolder } from "../support/temporary-folder.ts";
import { runMutants } from "./mutants.ts";
import { runSeeds } from "./pool.ts";
import { describeFailures, describeResult } from "./report.ts";

const USAGE = `npm run sim -- [--seeds N] [--seed S] [--trace] [--first] [--mutants]

  --seeds N   how many seeds to run; by default 10000, with --seed alone 1
  --seed S    the first of them; by default 1
  --trace     print all that happened in each run
  --first     stop at the first seed that fails
  --mutants   take protections out of copies of the source, and see which seed notices (by default 250 each)`;

const TAIL_LINES = 60;
const PROGRESS_SEEDS = 500;

/** Runs simulated installations: see docs/decisions/0060-simulation.md. */
async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      seed: { type: "string" },
      trace: { type: "boolean", default: false },
      first: { type: "boolean", default: false },
      mutants: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const first = count("--seed", values.seed ?? "1");
  if (values.mutants) return await runMutants({ first, seeds: count("--seeds", values.seeds ?? "250") });
  const seeds = count("--seeds", values.seeds ?? (values.seed === undefined ? "10000" : "1"));

  const endRun = await beginRun();
  try {
    await using folder = await withTemporaryFolder();
    const postgres = await startTestPostgres(folder.path);
    await using _stopped = { [Symbol.asyncDispose]: () => postgres.stop() };
    let done = 0;
    const results = await runSeeds({
      server: postgres.address,
      seeds: Array.from({ length: seeds }, (_, i) => first + i),
      lines: values.trace ? Number.MAX_SAFE_INTEGER : TAIL_LINES,
      first: values.first,
      onResult: (result) => {
        if (values.trace) console.log(describeResult(result));
        else if (result.error) console.log(`seed ${result.seed} fails: ${result.error.message}`);
        if (++done % PROGRESS_SEEDS === 0) console.log(`${done} of ${seeds} seeds`);
      },
    });
    const failures = describeFailures(results);
    console.log(failures || `${results.length} seeds without a fault of ours`);
    return failures ? 1 : 0;
  } finally {
    await endRun();
  }
}

function count(option: string, text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new Error(`${option} takes a whole number from 1 on, not ${JSON.stringify(text)}\n\n${USAGE}`);
}

process.exitCode = await main();
