import * as v from "valibot";
import { wholeNumber } from "./text.ts";

/** Priorities go from minus this to this; 0 is what nobody has changed. */
export const PRIORITY_MAX = 10;

/** Sets how urgent something is; without a priority, as urgent as can be. */
const bump = v.object({
  method: v.literal("bump"),
  priority: v.optional(wholeNumber(-PRIORITY_MAX, PRIORITY_MAX), PRIORITY_MAX),
});

/** `POST /evals/{evaluation}`. `approve` lets one begin that waits for a member to look at it. */
export const EvaluationAction = v.variant(
  "method",
  [v.object({ method: v.literal("abort") }), v.object({ method: v.literal("approve") }), bump],
  'must be "abort", "approve" or "bump"',
);
export type EvaluationAction = v.InferOutput<typeof EvaluationAction>;

/** `POST /builds/{build}`. */
export const BuildAction = v.variant(
  "method",
  [v.object({ method: v.literal("abort") }), v.object({ method: v.literal("restart") }), bump],
  'must be "abort", "restart" or "bump"',
);
export type BuildAction = v.InferOutput<typeof BuildAction>;
