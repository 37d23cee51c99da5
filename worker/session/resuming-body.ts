import type { ByteStream } from "#core/lib/streams.ts";

/** A part of a file, from some offset to its end. */
export interface FilePart {
  readonly body: ByteStream;
  readonly offset: number;
}

const EMPTY_PARTS_MAX = 3;

/**
 * A file whose transfer goes on where it was when it breaks off: `next` asks for the rest, and rejects when there is
 * none to be had. It gives up when parts break off one after the other without having brought anything.
 */
export class ResumingBody implements ByteStream {
  readonly #first: ByteStream;
  readonly #next: (offset: number, cause: unknown) => Promise<FilePart>;

  constructor(first: ByteStream, next: (offset: number, cause: unknown) => Promise<FilePart>) {
    this.#first = first;
    this.#next = next;
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    const reading = this.#read();
    let begun = false;
    return {
      next: () => {
        begun = true;
        return reading.next();
      },
      // A generator that was never begun would not let go of the first part.
      return: async () => {
        if (!begun) await this.#first[Symbol.asyncIterator]().return?.();
        return await reading.return(undefined);
      },
    };
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    let offset = 0;
    let emptyParts = 0;
    for (let part: FilePart = { body: this.#first, offset: 0 }; ; ) {
      let failure: unknown;
      try {
        for await (const bytes of part.body) {
          offset += bytes.length;
          yield bytes;
        }
        return;
      } catch (error) {
        failure = error;
      }
      emptyParts = offset === part.offset ? emptyParts + 1 : 0;
      if (emptyParts === EMPTY_PARTS_MAX) throw failure;
      part = await this.#next(offset, failure);
    }
  }
}
