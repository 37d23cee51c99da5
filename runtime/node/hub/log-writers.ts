/** Of each attempt the log that is being written: it ends before the attempt's result is recorded. */
export class LogWriters {
  readonly #writing = new Map<string, Promise<void>>();

  get size(): number {
    return this.#writing.size;
  }

  /** Must not reject. */
  add(attemptId: string, log: Promise<void>): void {
    const writing = log.finally(() => {
      if (this.#writing.get(attemptId) === writing) this.#writing.delete(attemptId);
    });
    this.#writing.set(attemptId, writing);
  }

  async ended(attemptId: string): Promise<void> {
    await this.#writing.get(attemptId);
  }

  /** The attempt is over: nothing waits for what its worker may still have open of its log. */
  forget(attemptId: string): void {
    this.#writing.delete(attemptId);
  }
}
