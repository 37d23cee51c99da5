import { markAttemptsStarted } from "#core/db/attempts.ts";
import type { HubDeps } from "./deps.ts";

/** A build that is shorter says with its result when it began: it is spared a row's change of its own. */
const RECORDED_AFTER_MS = 500;
/** What begins within this is recorded in one statement: a thousand builds a second would be as many transactions. */
const GATHERED_MS = 250;

/** Of builds that run for a while, when they began. */
export class AttemptStarts {
  readonly #deps: HubDeps;
  /** By attempt, when it began, on the clock that never jumps. */
  readonly #begun = new Map<string, number>();
  #scheduled = false;

  constructor(deps: HubDeps) {
    this.#deps = deps;
  }

  add(attemptId: string): void {
    if (this.#begun.has(attemptId)) return;
    this.#begun.set(attemptId, this.#deps.clock.monotonic());
    this.#schedule();
  }

  /** It has ended, or is no longer this server's. */
  forget(attemptId: string): void {
    this.#begun.delete(attemptId);
  }

  #schedule(): void {
    if (this.#scheduled || this.#begun.size === 0) return;
    this.#scheduled = true;
    this.#deps.clock.schedule(GATHERED_MS, () => {
      this.#scheduled = false;
      void this.#record();
      this.#schedule();
    });
  }

  async #record(): Promise<void> {
    const now = this.#deps.clock.monotonic();
    const due = [...this.#begun].filter(([, begunMs]) => now - begunMs >= RECORDED_AFTER_MS);
    if (due.length === 0) return;
    for (const [id] of due) this.#begun.delete(id);
    try {
      await markAttemptsStarted(
        this.#deps.db,
        due.map(([id, begunMs]) => ({ id, runningMs: Math.round(now - begunMs) })),
      );
    } catch (error) {
      // Their results will say it.
      this.#deps.log.warn("the beginning of builds was not recorded", { count: due.length, error });
    }
  }
}

const starts = new WeakMap<HubDeps, AttemptStarts>();

/** Those of all sessions of one server. */
export function attemptStartsOf(deps: HubDeps): AttemptStarts {
  const known = starts.get(deps) ?? new AttemptStarts(deps);
  starts.set(deps, known);
  return known;
}
