const ATTRIBUTES = 64;
const ATTRIBUTES_MAX = 1_024;
const GROWTH = 4;
/** What a group may take and count as cheap: many times what it takes to start an evaluator, which is some 30 ms. */
const CHEAP_MS = 500;

/**
 * How many attributes the next evaluator is given. Many versions of Nix need a new process for each group, and where
 * attributes are cheap that is what costs; where they are not, a large group would need the memory of all at once.
 */
export class GroupSize {
  #max = ATTRIBUTES;

  get max(): number {
    return this.#max;
  }

  /** `ms`: how long so many attributes took; null when the evaluator did not end well. */
  measured(attributes: number, ms: number | null): void {
    if (ms === null || ms > CHEAP_MS) this.#max = ATTRIBUTES;
    else if (attributes >= this.#max) this.#max = Math.min(GROWTH * this.#max, ATTRIBUTES_MAX);
  }
}
