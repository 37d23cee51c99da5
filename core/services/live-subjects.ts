/** Evaluations of others that word came of. */
const FOREIGN_MAX = 10_000;

/** Word comes of all evaluations there are. Those that a look has shown to be of others are not looked for again. */
export class LiveSubjects {
  #own: ReadonlySet<string> = new Set();
  readonly #foreign = new Set<string>();
  #called = new Set<string>();

  mayBeOwn(subject: string): boolean {
    if (this.#own.has(subject)) return true;
    if (this.#foreign.has(subject)) return false;
    if (this.#called.size < FOREIGN_MAX) this.#called.add(subject);
    return true;
  }

  /** Before a look: what it shows was there when they were called. */
  takeCalled(): ReadonlySet<string> {
    const called = this.#called;
    this.#called = new Set();
    return called;
  }

  learn(own: readonly string[], called: ReadonlySet<string>): void {
    this.#own = new Set(own);
    for (const subject of called) {
      if (this.#own.has(subject)) continue;
      if (this.#foreign.size >= FOREIGN_MAX) this.#foreign.clear();
      this.#foreign.add(subject);
    }
  }
}
