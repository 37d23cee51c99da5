import { spawn } from "node:child_process";
import { parseArgs } from "node:util";

const USAGE = `npm run fuzz -- [--seeds N] [--seed S]

  --seeds N   how many seeds to run against the server, and against the worker; by default 1000, with --seed alone 1
  --seed S    the first of them; by default 1`;

/** Hostile workers against a server, and a hostile server against a worker: more seeds than the tests have. */
async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { seeds: { type: "string" }, seed: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  const { seed, seeds = seed === undefined ? "1000" : "1" } = values;
  if (values.help || ![seed ?? "1", seeds].every((text) => /^[1-9]\d{0,6}$/.test(text))) {
    console.log(USAGE);
    return values.help ? 0 : 1;
  }
  const env = { ...process.env, GRADIENT_FUZZ_SEEDS: seeds, GRADIENT_FUZZ_FIRST: seed ?? "1" };
  const files = ["test/hostile/workers.test.ts", "test/hostile/servers.test.ts"];
  const limits = ["--testTimeout", String(Number(seeds) * 10_000 + 120_000)];
  const child = spawn(process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...limits, ...files], {
    env,
    stdio: "inherit",
  });
  return await new Promise((resolve) => child.once("close", (code) => resolve(code ?? 1)));
}

process.exitCode = await main();
