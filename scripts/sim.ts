import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "./source-files.ts";

const USAGE = `npm run sim -- [--seeds N] [--seed S] [--trace] [--first]

  --seeds N   how many seeds to run; by default 100, with --seed alone 1
  --seed S    the first of them; by default 1
  --trace     print all that happened in each run
  --first     stop at the first seed that fails`;

/** Runs simulated installations: see docs/decisions/0060-simulation.md. */
function main(): number {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string" },
      seed: { type: "string" },
      trace: { type: "boolean", default: false },
      first: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const first = count("--seed", values.seed ?? "1");
  const seeds = count("--seeds", values.seeds ?? (values.seed === undefined ? "100" : "1"));
  const folder = mkdtempSync(join(tmpdir(), "gradient-sim-trace-"));
  const trace = join(folder, "trace");
  try {
    const { status } = spawnSync(join(ROOT, "node_modules/.bin/vitest"), ["run", "test/sim", "-t", "whatever fails"], {
      cwd: ROOT,
      stdio: "inherit",
      env: {
        ...process.env,
        GRADIENT_SIM_SEED: String(first),
        GRADIENT_SIM_SEEDS: String(seeds),
        ...(values.first && { GRADIENT_SIM_FIRST: "1" }),
        ...(values.trace && { GRADIENT_SIM_TRACE_FILE: trace }),
      },
    });
    if (existsSync(trace)) console.log(readFileSync(trace, "utf8"));
    return status ?? 1;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function count(option: string, text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new Error(`${option} takes a whole number from 1 on, not ${JSON.stringify(text)}\n\n${USAGE}`);
}

process.exitCode = main();
