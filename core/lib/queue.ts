/**
 * An unbounded queue between one producer and one consumer. The producer is expected to bound what it pushes (a credit
 * window, a batch limit); the queue itself only keeps the order and carries an end or an error across.
 */
export class AsyncQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  #head = 0;
  #end: { error: unknown } | null = null;
  #wake: (() => void) | null = null;

  get size(): number {
    return this.#items.length - this.#head;
  }

  push(item: T): void {
    if (this.#end) return;
    this.#items.push(item);
    this.#signal();
  }

  /** What was pushed before is still delivered. */
  close(): void {
    this.#end ??= { error: undefined };
    this.#signal();
  }

  /** What was pushed before is dropped, and the consumer sees the error at once. */
  fail(error: unknown): void {
    if (this.#end) return;
    this.#items.length = 0;
    this.#head = 0;
    this.#end = { error };
    this.#signal();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      if (this.#head < this.#items.length) {
        const item = this.#items[this.#head++] as T;
        if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
          this.#items.splice(0, this.#head);
          this.#head = 0;
        }
        yield item;
      } else if (this.#end) {
        if (this.#end.error !== undefined) throw this.#end.error;
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #signal(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
