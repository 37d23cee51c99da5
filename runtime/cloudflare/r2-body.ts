import { storageFailure } from "./r2-failures.ts";

/** Of Workers, which otherwise give out what is there: some kilobytes, each at the cost of a turn. */
interface PieceReader {
  /** Resolves with fewer bytes at the end of the stream only. The view's memory goes with the call. */
  readAtLeast(
    bytesMin: number,
    view: Uint8Array,
  ): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
  cancel(): Promise<void>;
}

const PIECE_BYTES = 256 * 1024;

/** An object's bytes. Whoever stops early lets go of the connection, also before the first piece. */
export class R2Body implements AsyncIterableIterator<Uint8Array> {
  readonly #reader: PieceReader;
  #left: number;

  constructor(stream: ReadableStream<Uint8Array>, length: number) {
    this.#reader = pieceReader(stream);
    this.#left = length;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#left === 0) return { done: true, value: undefined };
    const bytes = Math.min(this.#left, PIECE_BYTES);
    const { value } = await this.#reader.readAtLeast(bytes, new Uint8Array(bytes)).catch(fail);
    if (!value || value.length === 0) fail(new Error(`an object ended ${this.#left} bytes too early`));
    this.#left -= value.length;
    return { done: false, value };
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#left = 0;
    await this.#reader.cancel().catch(() => {});
    return { done: true, value: undefined };
  }
}

/** Streams of another runtime give out what they have. */
function pieceReader(stream: ReadableStream<Uint8Array>): PieceReader {
  try {
    const reader: unknown = stream.getReader({ mode: "byob" });
    if (isPieceReader(reader)) return reader;
    (reader as ReadableStreamBYOBReader).releaseLock();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  const reader = stream.getReader();
  return { readAtLeast: () => reader.read(), cancel: () => reader.cancel() };
}

function isPieceReader(reader: unknown): reader is PieceReader {
  return typeof (reader as Partial<PieceReader>).readAtLeast === "function";
}

function fail(error: unknown): never {
  throw storageFailure(error);
}
