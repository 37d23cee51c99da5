import type { ScoringSummary } from "../../api/board.ts";
import type { RuleName } from "./rules.ts";

const PARTS = 12;

interface Score {
  readonly total: number;
  readonly rules: Readonly<Record<string, number>>;
}

/** How scores are spread, and what each rule gave. */
export function summarizeScores(scores: readonly Score[], rules: readonly RuleName[]): ScoringSummary {
  const totals = scores.map(({ total }) => total);
  if (totals.length === 0) {
    return { sample_size: 0, score_min: null, score_max: null, score_avg: null, histogram: [], rules: [] };
  }
  const { avg, min, max } = spread(totals);
  const width = (max - min) / PARTS;
  const counts = Array.from({ length: PARTS }, () => 0);
  for (const total of totals) {
    const part = width === 0 ? 0 : Math.min(PARTS - 1, Math.floor((total - min) / width));
    counts[part] = (counts[part] ?? 0) + 1;
  }
  return {
    sample_size: totals.length,
    score_min: min,
    score_max: max,
    score_avg: avg,
    histogram: counts.map((count, part) => ({ lo: min + part * width, hi: min + (part + 1) * width, count })),
    rules: rules.map((rule) => ({ rule, ...spread(scores.map((score) => score.rules[rule] ?? 0)) })),
  };
}

function spread(values: readonly number[]): { readonly avg: number; readonly min: number; readonly max: number } {
  const sum = values.reduce((total, value) => total + value, 0);
  const extreme = (pick: (a: number, b: number) => number) => values.reduce((a, b) => pick(a, b));
  return { avg: sum / values.length, min: extreme(Math.min), max: extreme(Math.max) };
}
