import { fromUtf8Lossy } from "../lib/bytes.ts";
import type { ByteStream } from "../lib/streams.ts";
import { BodyQueue } from "./body-queue.ts";
import type { DataFrame } from "./frame.ts";
import { STREAM_WINDOW_BYTES } from "./limits.ts";
import { StreamEndedError } from "./outgoing-stream.ts";

interface Transport {
  grant(offset: number): void;
  stop(): void;
  /** No further frame of it is taken. What has come may wait for its reader still. */
  onEnd(): void;
  /** That much more of it waits for its reader, or less. */
  onWaiting(bytes: number): void;
}

/**
 * A body that the peer sends. At most one window of it is in memory: further credit is granted as the reader takes
 * what has come, half a window at a time.
 */
export class IncomingStream implements ByteStream {
  readonly #transport: Transport;
  readonly #queue = new BodyQueue();
  #counted = 0;
  #received = 0;
  #consumed = 0;
  #granted = STREAM_WINDOW_BYTES;
  #ended = false;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Throws for what no well-behaved sender does. */
  receive(frame: DataFrame): void {
    if (frame.aborted) return this.fail(new StreamEndedError(`the sender gave up: ${fromUtf8Lossy(frame.body)}`));
    if (frame.offset !== this.#received) throw new Error("a data frame is out of order");
    this.#received += frame.body.length;
    if (this.#received > this.#granted) throw new Error("more data than was granted");
    if (frame.body.length > 0) this.#queue.push(frame.body);
    if (frame.end) {
      this.#finish();
      this.#queue.close();
    }
    this.#count();
  }

  fail(error: Error): void {
    this.#finish();
    this.#queue.fail(error);
    this.#count();
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    const reading = this.#read();
    return {
      next: () => reading.next(),
      // A generator that was never begun would not run its `finally`, and the peer would wait for credit for ever.
      return: async () => {
        this.#stop();
        return await reading.return(undefined);
      },
    };
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    for await (const bytes of this.#queue) {
      this.#count();
      yield bytes;
      this.#consumed += bytes.length;
      if (!this.#ended && this.#granted - this.#consumed <= STREAM_WINDOW_BYTES / 2) {
        this.#granted = this.#consumed + STREAM_WINDOW_BYTES;
        this.#transport.grant(this.#granted);
      }
    }
  }

  #stop(): void {
    if (!this.#ended) this.#transport.stop();
    this.#finish();
    this.#queue.drop();
    this.#count();
  }

  #count(): void {
    const change = this.#queue.waitingBytes - this.#counted;
    this.#counted += change;
    if (change !== 0) this.#transport.onWaiting(change);
  }

  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#transport.onEnd();
  }
}
