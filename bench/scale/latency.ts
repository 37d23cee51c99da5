import type { SlotEvent } from "./watch.ts";

/**
 * Of each assignment the milliseconds since the build was ready and some worker had a free place for it: the place that
 * had been free the longest, whichever worker got the build. All places are alike.
 */
export function assignmentDelays(events: readonly SlotEvent[], readyAt: ReadonlyMap<string, number>): number[] {
  const free = new Map<number, number[]>();
  const delays: number[] = [];
  for (const event of events.toSorted((a, b) => a.at - b.at)) {
    const own = free.get(event.worker) ?? [];
    free.set(event.worker, own);
    if ("free" in event) {
      for (let i = 0; i < event.free; i++) own.push(event.at);
      continue;
    }
    const oldest = Math.min(...Array.from(free.values(), (times) => times[0] ?? Number.POSITIVE_INFINITY));
    own.shift();
    const ready = readyAt.get(event.build);
    if (ready === undefined) throw new Error(`build ${event.build} was assigned and never ready`);
    delays.push(Math.max(0, event.at - Math.max(ready, Math.min(oldest, event.at))));
  }
  return delays;
}

/** The value that so many hundredths of the values do not exceed. */
export function percentile(values: readonly number[], hundredths: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil((sorted.length * hundredths) / 100) - 1)] ?? 0;
}
