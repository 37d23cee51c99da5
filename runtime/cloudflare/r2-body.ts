import { storageFailure } from "./r2-failures.ts";

/** An object's bytes. Whoever stops early lets go of the connection, also before the first piece. */
export class R2Body implements AsyncIterableIterator<Uint8Array> {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #left: number;

  constructor(stream: ReadableStream<Uint8Array>, length: number) {
    this.#reader = stream.getReader();
    this.#left = length;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const { done, value } = await this.#reader.read().catch(fail);
    if (!done) {
      this.#left -= value.length;
      return { done: false, value };
    }
    if (this.#left > 0) fail(new Error(`an object ended ${this.#left} bytes too early`));
    return { done: true, value: undefined };
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    await this.#reader.cancel().catch(() => {});
    this.#left = 0;
    return { done: true, value: undefined };
  }
}

function fail(error: unknown): never {
  throw storageFailure(error);
}
