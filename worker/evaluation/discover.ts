import type { AttributePatterns, Segment } from "#core/nix/attribute-pattern.ts";
import { formatAttributePath } from "#core/nix/attribute-pattern.ts";
import { type AttributePath, attributeKey, compareAttributes } from "./attribute-order.ts";
import { EvaluationError } from "./errors.ts";
import type { EvaluatorMessage } from "./evaluator-stderr.ts";
import { discoveryExpression, type WalkedPattern } from "./expressions.ts";
import type { NixEvaluator } from "./nix-eval.ts";

/** An attribute that a pattern asks for. What it is shows when it is instantiated. */
export interface Candidate {
  readonly attribute: AttributePath;
  /** When it is a plain set: how many levels below it are asked for as well. */
  readonly extraLevels: number;
  /** Asked for by its name: it must exist and be a derivation. What a wildcard found may be something else. */
  readonly isExplicit: boolean;
  /** It is excluded itself; what is below it may be asked for. */
  readonly isExcluded: boolean;
}

export interface AttributeError {
  readonly attribute: AttributePath;
  readonly error: string;
}

export interface Discovery {
  /** Sorted, each attribute once. */
  readonly candidates: readonly Candidate[];
  readonly errors: readonly AttributeError[];
  /** The names of the flake's outputs; empty when no pattern has a wildcard. */
  readonly outputs: readonly string[];
}

export interface DiscoveryOptions {
  readonly patterns: AttributePatterns;
  readonly attributesMax: number;
  readonly deadline: number;
  onMessage(message: EvaluatorMessage, attribute: AttributePath | null): void;
}

/** A lone `*` means everything. Deeper than this nothing is meant to be found by chance. */
const EVERYTHING_LEVELS = 5;
/** A whole package set (`nix flake show` leaves it out as well), and functions: to be named by who wants them. */
const NOT_PART_OF_EVERYTHING: readonly string[] = ["legacyPackages", "lib"];
/** How many sets may be broken before the flake as a whole counts as broken. */
const DEATHS_MAX = 64;

/** Finds what the patterns ask for. A set that cannot be looked into is an error; the walk goes on behind it. */
export async function discover(evaluator: NixEvaluator, options: DiscoveryOptions): Promise<Discovery> {
  const { includes } = options.patterns;
  const walked = includes.filter((segments) => segments.some(({ kind }) => kind !== "name")).map(walkedPattern);
  const walk = new DiscoveryWalk(evaluator, options, walked);
  if (walked.length > 0) await walk.run();

  const explicit = includes.flatMap((segments) => {
    const names = segments.flatMap((segment) => (segment.kind === "name" ? [segment.name] : []));
    return names.length === segments.length ? [names] : [];
  });
  return { candidates: merge(walk.matches, explicit, options), errors: walk.errors, outputs: walk.outputs };
}

/** Whether `*` alone is meant: everything, as far as it is not in `NOT_PART_OF_EVERYTHING`. */
function isEverything(segments: readonly Segment[]): boolean {
  return segments.length === 1 && segments[0]?.kind === "any";
}

function walkedPattern(segments: readonly Segment[]): WalkedPattern {
  const trailing = segments.at(-1)?.kind === "any" ? 1 : 0;
  return {
    extraLevels: isEverything(segments) ? EVERYTHING_LEVELS : trailing,
    segments: segments.map((segment) =>
      segment.kind === "name" ? { name: segment.name } : { name: null, intoOpaque: segment.kind === "anyShallow" },
    ),
  };
}

interface Match {
  readonly attribute: AttributePath;
  readonly extraLevels: number;
}

class DiscoveryWalk {
  readonly #matches = new Map<string, Match>();
  readonly errors: AttributeError[] = [];
  outputs: string[] = [];
  readonly #evaluator: NixEvaluator;
  readonly #options: DiscoveryOptions;
  readonly #patterns: readonly WalkedPattern[];
  #at: AttributePath | null = null;

  constructor(evaluator: NixEvaluator, options: DiscoveryOptions, patterns: readonly WalkedPattern[]) {
    this.#evaluator = evaluator;
    this.#options = options;
    this.#patterns = patterns;
  }

  get matches(): readonly Match[] {
    return [...this.#matches.values()];
  }

  async run(): Promise<void> {
    const { deadline, onMessage } = this.#options;
    let resumeAfter: AttributePath | null = null;
    for (;;) {
      this.#at = null;
      const after = resumeAfter;
      const end = await this.#evaluator.run({
        expression: (mark) => discoveryExpression(mark, this.#patterns, after),
        deadline,
        onReport: (report) => this.#read(report),
        onMessage: (message) => onMessage(message, this.#at),
      });
      if (end.ok) break;
      const guilty = this.#at as AttributePath | null;
      const hasProgress = guilty !== null && (after === null || compareAttributes(guilty, after) > 0);
      if (guilty === null || guilty.length === 0 || !hasProgress)
        throw new EvaluationError("flake_broken", end.message);
      this.errors.push({ attribute: guilty, error: end.message });
      if (this.errors.length > DEATHS_MAX) {
        throw new EvaluationError(
          "flake_broken",
          `more than ${DEATHS_MAX} sets of the flake fail, the last: ${end.message}`,
        );
      }
      resumeAfter = guilty;
    }
  }

  #read(report: Readonly<Record<string, unknown>>): void {
    if (Array.isArray(report.outputs)) this.outputs = report.outputs as string[];
    if (Array.isArray(report.at)) this.#at = report.at as string[];
    if (!Array.isArray(report.matches)) return;
    const path = report.path as string[];
    for (const [name, extraLevels] of report.matches as [string, number][]) {
      const isEverything = path.length === 0 && extraLevels === EVERYTHING_LEVELS;
      const isLeftOut = isEverything && NOT_PART_OF_EVERYTHING.includes(name);
      const attribute = [...path, name];
      // An evaluator that had to be replaced says again what it had said.
      if (!isLeftOut) this.#matches.set(attributeKey(attribute), { attribute, extraLevels });
    }
    limitAttributes(this.#matches.size, this.#options.attributesMax);
  }
}

/** Throws when there are more attributes than an evaluation may have. */
export function limitAttributes(count: number, attributesMax: number): void {
  if (count <= attributesMax) return;
  throw new EvaluationError(
    "too_many_attributes",
    `the patterns match more than ${attributesMax} attributes: narrow them, or exclude what is not needed`,
  );
}

function merge(matches: readonly Match[], explicit: readonly AttributePath[], options: DiscoveryOptions): Candidate[] {
  const excluded = new Set(options.patterns.excludes.map(attributeKey));
  const found = new Map<string, Candidate>();
  for (const { attribute, extraLevels } of matches) {
    const key = attributeKey(attribute);
    const levels = Math.max(extraLevels, found.get(key)?.extraLevels ?? 0);
    const isExcluded = excluded.has(key);
    if (isExcluded && levels === 0) continue;
    found.set(key, { attribute, extraLevels: levels, isExplicit: false, isExcluded });
  }
  for (const attribute of explicit) {
    const key = attributeKey(attribute);
    const extraLevels = found.get(key)?.extraLevels ?? 0;
    // By its name it must be a derivation, unless a wildcard looks below it as well.
    const isExplicit = extraLevels === 0;
    if (!excluded.has(key)) found.set(key, { attribute, extraLevels, isExplicit, isExcluded: false });
  }
  limitAttributes(found.size, options.attributesMax);
  return [...found.values()].sort((a, b) => compareAttributes(a.attribute, b.attribute));
}

/** What to tell when no attribute matched. */
export function nothingMatched(patternText: string, outputs: readonly string[]): string {
  const shown = outputs.slice(0, 20).map((name) => formatAttributePath([name]));
  const more = outputs.length > shown.length ? ", …" : "";
  const has = shown.length === 0 ? "the flake has no outputs" : `the flake has: ${shown.join(", ")}${more}`;
  return `no attribute matches ${patternText}: correct the project's patterns; ${has}`;
}
