import { expect, test } from "vitest";
import { postgresAddress } from "../support/database.ts";
import { runSeeds } from "./pool.ts";
import { describeFailures } from "./report.ts";

/** On the oldest PostgreSQL a few: it is about the system's own steps, and its SQL is tested there by itself. */
const SEEDS = process.env.GRADIENT_TEST_POSTGRES === "system" ? 10 : 200;
const REPLAYED = 3;
const TAIL_LINES = 60;
const TIMEOUT_MS = 900_000;

const seedsFrom = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);

test(`whatever fails in whatever order, ${SEEDS} simulated installations keep their promises and come to an end`, {
  timeout: TIMEOUT_MS,
}, async () => {
  const server = await postgresAddress();
  const results = await runSeeds({ server, seeds: seedsFrom(1, SEEDS), lines: TAIL_LINES });
  const failures = describeFailures(results);
  if (failures) throw new Error(failures);
});

test("a run follows from its seed alone, in whatever process, also when each answer comes from the database", {
  timeout: TIMEOUT_MS,
}, async () => {
  const server = await postgresAddress();
  const seeds = seedsFrom(1, REPLAYED).flatMap((seed) => [seed, seed]);
  const recalled = await runSeeds({ server, seeds, lines: 0 });
  const asked = await runSeeds({ server, seeds: seedsFrom(1, REPLAYED), lines: 0, recalls: false });
  const results = [...recalled, ...asked];
  for (const { seed, digest } of results) {
    expect(new Set(results.filter((other) => other.seed === seed).map((other) => other.digest))).toEqual(
      new Set([digest]),
    );
  }
  expect(new Set(results.map(({ digest }) => digest)).size).toBe(REPLAYED);
});
