import type { EnvironmentReader } from "./reader.ts";

/** What an evaluation may take. Times are milliseconds. */
export interface EvaluationLimits {
  /** For the whole of it, or of the fetch before it. */
  readonly timeoutMs: number;
  readonly attributesMax: number;
  /** Distinct derivations, dependencies included. */
  readonly derivationsMax: number;
  /** Warnings and notices; errors are always recorded. */
  readonly messagesMax: number;
}

const DAY_SECONDS = 86_400;

export function readEvaluationLimits(reader: EnvironmentReader): EvaluationLimits {
  const count = (name: string, fallback: number) => reader.integer(name, fallback, { min: 1, max: 100_000_000 });
  return {
    timeoutMs: reader.integer("GRADIENT_EVALUATION_TIMEOUT_SECS", 3_600, { min: 1, max: 7 * DAY_SECONDS }) * 1_000,
    attributesMax: count("GRADIENT_EVALUATION_MAX_ATTRIBUTES", 100_000),
    derivationsMax: count("GRADIENT_EVALUATION_MAX_DERIVATIONS", 1_000_000),
    messagesMax: count("GRADIENT_EVALUATION_MAX_MESSAGES", 1_000),
  };
}
