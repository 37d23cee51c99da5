import { medianOf, ninetiethOf } from "./history.ts";

/** A build that has not ended. */
export interface OpenBuild {
  readonly id: string;
  /** What builds of its package took lately; empty for the first. */
  readonly durationsMs: readonly number[];
  /** Since its builder began; 0 while it waits. */
  readonly ranForMs: number;
  /** Builds that it waits for. Those that are not in the graph do not count. */
  readonly needs: readonly string[];
}

export interface Estimate {
  /** As likely to be sooner as later. */
  readonly medianMs: number;
  /** If every package takes as long as one in ten does. */
  readonly ninetiethMs: number;
  readonly openBuilds: number;
  /** Those of them whose package was built before; others are taken for average. */
  readonly knownBuilds: number;
}

/** What began is not over before some more time, however long it has run. */
const REMAINING_MS_MIN = 1_000;

/**
 * How long it is until all of these builds have ended, on `places` that stay free for them: not before the longest
 * chain of them, and not before the work is done. Null when nothing is known of any of them. Whatever is on a cycle,
 * which no graph has, is left out.
 */
export function estimate(builds: readonly OpenBuild[], places: number): Estimate | null {
  const known = builds.filter(({ durationsMs }) => durationsMs.length > 0);
  if (known.length === 0) return null;
  const time = (of: (values: readonly number[]) => number) => {
    const average = known.reduce((sum, { durationsMs }) => sum + of(durationsMs), 0) / known.length;
    const remaining = new Map(
      builds.map(({ id, durationsMs, ranForMs }) => {
        const whole = durationsMs.length > 0 ? of(durationsMs) : average;
        return [id, ranForMs > 0 ? Math.max(whole - ranForMs, REMAINING_MS_MIN) : whole];
      }),
    );
    const work = [...remaining.values()].reduce((sum, ms) => sum + ms, 0);
    return Math.round(Math.max(longestChain(builds, remaining), work / Math.max(places, 1)));
  };
  return {
    medianMs: time(medianOf),
    ninetiethMs: time(ninetiethOf),
    openBuilds: builds.length,
    knownBuilds: known.length,
  };
}

/** Takes builds in an order in which each comes after what it needs. */
function longestChain(builds: readonly OpenBuild[], remaining: ReadonlyMap<string, number>): number {
  const dependents = new Map<string, string[]>();
  const pending = new Map<string, number>();
  for (const { id, needs } of builds) {
    const open = needs.filter((need) => remaining.has(need));
    pending.set(id, open.length);
    for (const need of open) {
      const above = dependents.get(need);
      if (above) above.push(id);
      else dependents.set(need, [id]);
    }
  }
  const endsAt = new Map<string, number>();
  const ready = builds.filter(({ id }) => pending.get(id) === 0).map(({ id }) => id);
  let longest = 0;
  for (let id = ready.pop(); id !== undefined; id = ready.pop()) {
    const end = (endsAt.get(id) ?? 0) + (remaining.get(id) ?? 0);
    longest = Math.max(longest, end);
    for (const above of dependents.get(id) ?? []) {
      endsAt.set(above, Math.max(endsAt.get(above) ?? 0, end));
      const left = (pending.get(above) ?? 0) - 1;
      pending.set(above, left);
      if (left === 0) ready.push(above);
    }
  }
  return longest;
}
