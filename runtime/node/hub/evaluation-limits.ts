import { countBuildsOfAttempt } from "#core/db/evaluation-graph.ts";
import { EVAL_BATCH_NODES_MAX } from "#core/protocol/limits.ts";
import type { HubDeps } from "./deps.ts";

/** Batches that a worker may have sent twice, because their answers were lost with a session. */
const REPEATED_BATCHES_MAX = 8;
/** Batches have their numbers from the same row as messages, and so have errors that concern no attribute. */
const OTHER_MESSAGES_MAX = 10_000;

/**
 * What the evaluations of one session report, held to the limits that their workers were told: one that does not keep
 * them fills no database.
 */
export class EvaluationLimits {
  readonly #deps: Pick<HubDeps, "db" | "limits">;
  readonly #derivations = new Map<string, number>();

  constructor(deps: Pick<HubDeps, "db" | "limits">) {
    this.#deps = deps;
  }

  /** Whether an evaluation may have as many messages as this number says: they are counted from 0. */
  allowsMessage(sequence: number): boolean {
    const { attributesMax, derivationsMax, messagesMax } = this.#deps.limits.evaluation;
    return sequence < messagesMax + attributesMax + derivationsMax + OTHER_MESSAGES_MAX;
  }

  /** Why so many more derivations cannot be taken; null when they can. */
  async refuse(attemptId: string, derivations: number): Promise<string | null> {
    const max = this.#deps.limits.evaluation.derivationsMax;
    const before = this.#derivations.get(attemptId) ?? (await countBuildsOfAttempt(this.#deps.db, attemptId));
    const count = before + derivations;
    if (count > max + REPEATED_BATCHES_MAX * EVAL_BATCH_NODES_MAX) {
      const option = "GRADIENT_EVALUATION_MAX_DERIVATIONS";
      return `the evaluation needs more than ${max} derivations (${option}): narrow the patterns`;
    }
    this.#derivations.set(attemptId, count);
    return null;
  }

  /** Of attempts that the session's worker holds no longer nothing is kept. */
  forgetAllBut(isHeld: (attemptId: string) => boolean): void {
    for (const id of this.#derivations.keys()) if (!isHeld(id)) this.#derivations.delete(id);
  }
}
