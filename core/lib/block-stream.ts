import type { ByteStream } from "./streams.ts";

/**
 * A body that can also be read into the reader's own memory, and then makes no garbage. It is read in one way or the
 * other, not in both at a time.
 */
export interface BlockStream extends ByteStream {
  /** Reads up to as many bytes as the block has, and answers how many; 0 at the end. Throws as `next` does. */
  readInto(block: Uint8Array): Promise<number>;
  /** Lets go of the source. To be called at the end too, and any number of times. */
  close(): Promise<void>;
}

export function isBlockStream(stream: ByteStream): stream is BlockStream {
  return "readInto" in stream;
}

/** A response once more, in the form that costs least to send. */
export interface OfferedBody {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Not to be written to. */
  readonly first: Uint8Array;
  /** Null: `first` is all of it. */
  readonly rest: BlockStream | null;
}

const offers = new WeakMap<Response, OfferedBody>();

/** Lets the runtime send a response's body in its own way instead of reading the response's stream. */
export function offerBody(response: Response, body: OfferedBody): Response {
  offers.set(response, body);
  return response;
}

/** Whoever takes it sends it and closes it, and leaves the response's stream alone. Null when there is no offer. */
export function takeBody(response: Response): OfferedBody | null {
  const body = offers.get(response);
  offers.delete(response);
  return body ?? null;
}
