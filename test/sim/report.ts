import type { SeedResult } from "./process.ts";

/** What a person wants to see of a run. */
export function describeResult({ seed, error, trace, simulatedMs }: SeedResult): string {
  const end = error
    ? [`seed ${seed}: ${error.stack}`, `replay: npm run sim -- --seed ${seed} --trace`]
    : [`seed ${seed}: ${simulatedMs / 1_000} s without a fault of ours`];
  return [...trace, ...end].join("\n");
}

/** Empty when none has failed. */
export function describeFailures(results: readonly SeedResult[]): string {
  const failed = results.filter(({ error }) => error !== null);
  if (!failed[0]) return "";
  const seeds = failed.map(({ seed, error }) => `${seed} (${error?.message.split("\n")[0]})`);
  return `${describeResult(failed[0])}\nfailing seeds: ${seeds.join(", ")}`;
}
