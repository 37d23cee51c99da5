import type { PlainAnswer } from "#core/http/plain-answer.ts";

export interface MemoryCounts {
  readonly narInfos: number;
  readonly notModified: number;
  readonly nars: number;
  readonly places: number;
}

/** Counts what was answered of memory, by plain numbers: a labelled counter would be a hundredth of the cost. */
export class MemoryAnswers {
  #narInfos = 0;
  #notModified = 0;
  #nars = 0;
  #places = 0;

  count({ kind, status }: PlainAnswer): void {
    if (kind === "place") this.#places++;
    else if (kind === "nar") this.#nars++;
    else if (status === 304) this.#notModified++;
    else this.#narInfos++;
  }

  /** Since the last call. */
  take(): MemoryCounts {
    const taken = {
      narInfos: this.#narInfos,
      notModified: this.#notModified,
      nars: this.#nars,
      places: this.#places,
    };
    this.#narInfos = 0;
    this.#notModified = 0;
    this.#nars = 0;
    this.#places = 0;
    return taken;
  }
}
