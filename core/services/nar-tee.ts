import type { ByteStream } from "../lib/streams.ts";

/**
 * Passes `body` on while `watch` reads the same chunks, at most one chunk behind. The end is only passed on after
 * `watch` has agreed: when it throws, its error comes in the place of the next chunk or of the end. `watch` must read
 * to the end; bytes that it left unread are an error too. Nothing keeps running after this generator has ended.
 */
export async function* watched(
  body: ByteStream,
  watch: (copy: ByteStream) => Promise<void>,
): AsyncGenerator<Uint8Array> {
  const copy = new Handoff();
  const verdict: { failure: { readonly error: unknown } | null } = { failure: null };
  const watching = watch(copy)
    .catch((error: unknown) => {
      verdict.failure = { error };
    })
    .finally(() => copy.close());
  try {
    for await (const chunk of body) {
      const taken = await copy.push(chunk);
      if (verdict.failure) throw verdict.failure.error;
      if (!taken) throw new UnreadBytesError("bytes follow what was expected to be the end");
      yield chunk;
    }
    copy.end(null);
    await watching;
    if (verdict.failure) throw verdict.failure.error;
  } finally {
    // Reached early when the body broke off or its reader gave up: the watcher must not wait for bytes for ever.
    copy.end(new Error("the body was given up"));
    await watching;
  }
}

/** `watch` was done before the body was. */
export class UnreadBytesError extends Error {
  override readonly name = "UnreadBytesError";
}

/** One slot between a writer and a reader: the writer waits until the reader has taken the chunk. */
class Handoff implements AsyncIterable<Uint8Array> {
  #chunk: Uint8Array | null = null;
  #end: { readonly error: Error | null } | null = null;
  #closed = false;
  #wakeReader: () => void = () => {};
  #wakeWriter: () => void = () => {};

  /** False when nobody reads any more. */
  async push(chunk: Uint8Array): Promise<boolean> {
    if (this.#closed) return false;
    this.#chunk = chunk;
    this.#wakeReader();
    await new Promise<void>((resolve) => {
      this.#wakeWriter = resolve;
    });
    return this.#chunk === null;
  }

  end(error: Error | null): void {
    this.#end ??= { error };
    this.#wakeReader();
  }

  close(): void {
    this.#closed = true;
    this.#wakeWriter();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const chunk = this.#chunk;
        if (chunk) {
          this.#chunk = null;
          this.#wakeWriter();
          yield chunk;
        } else if (this.#end) {
          if (this.#end.error) throw this.#end.error;
          return;
        } else {
          await new Promise<void>((resolve) => {
            this.#wakeReader = resolve;
          });
        }
      }
    } finally {
      this.close();
    }
  }
}
