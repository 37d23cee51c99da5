import { createHash } from "node:crypto";
import { appendFile } from "node:fs/promises";
import { expect, test } from "vitest";
import type { SecretKey } from "#core/nix/signature.ts";
import { withDatabase } from "../support/database.ts";
import { withImmediateCrypto, withoutSystemTimers } from "./platform.ts";
import { type SimulationResult, simulate } from "./run.ts";
import { makeSigningKey } from "./server.ts";

// `npm run sim` sets these. A trace goes to a file, since the test runner shortens what is long.
const FIRST_SEED = Number(process.env.GRADIENT_SIM_SEED ?? 1);
const SEEDS = Number(process.env.GRADIENT_SIM_SEEDS ?? 20);
const TRACE_FILE = process.env.GRADIENT_SIM_TRACE_FILE;
const FIRST_ONLY = process.env.GRADIENT_SIM_FIRST === "1";
const TAIL_LINES = 60;
const TIMEOUT_MS: number = 60_000 + SEEDS * 30_000;

let signingKey: Promise<SecretKey> | null = null;

async function runSeed(seed: number): Promise<SimulationResult> {
  signingKey ??= makeSigningKey();
  const secretKey = await signingKey;
  await using database = await withDatabase({ connectionsMax: 1 });
  using _crypto = withImmediateCrypto();
  using _timers = withoutSystemTimers();
  return await simulate({ seed, address: database.address, secretKey });
}

function report({ seed, error, trace, simulatedMs }: SimulationResult, lines: number): string {
  const end = error
    ? [`seed ${seed}: ${error.stack}`, `replay: npm run sim -- --seed ${seed} --trace`]
    : [`seed ${seed}: ${simulatedMs / 1_000} s without a fault of ours`];
  return [...trace.slice(-lines), ...end].join("\n");
}

test(`whatever fails in whatever order, ${SEEDS} simulated installations keep their promises and come to an end`, {
  timeout: TIMEOUT_MS,
}, async () => {
  const failed: SimulationResult[] = [];
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    const result = await runSeed(seed);
    if (TRACE_FILE) await appendFile(TRACE_FILE, `${report(result, result.trace.length)}\n`);
    if (result.error) failed.push(result);
    if (result.error && FIRST_ONLY) break;
  }
  const seeds = failed.map(({ seed, error }) => `${seed} (${error?.message})`);
  if (failed[0]) throw new Error(`${report(failed[0], TAIL_LINES)}\nfailing seeds: ${seeds.join(", ")}`);
});

test("a run follows from its seed alone", { timeout: TIMEOUT_MS }, async () => {
  const digest = ({ trace }: SimulationResult) => createHash("sha256").update(trace.join("\n")).digest("hex");
  const first = await runSeed(FIRST_SEED);
  expect(digest(await runSeed(FIRST_SEED))).toBe(digest(first));
});
