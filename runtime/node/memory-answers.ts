/** Counts what was answered of memory, by two numbers: a labelled counter would be a hundredth of the answer's cost. */
export class MemoryAnswers {
  #found = 0;
  #notModified = 0;

  count(status: number): void {
    if (status === 304) this.#notModified++;
    else this.#found++;
  }

  /** Since the last call. */
  take(): { readonly found: number; readonly notModified: number } {
    const taken = { found: this.#found, notModified: this.#notModified };
    this.#found = 0;
    this.#notModified = 0;
    return taken;
  }
}
