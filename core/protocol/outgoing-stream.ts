import { utf8 } from "../lib/bytes.ts";
import type { ByteStream } from "../lib/streams.ts";
import type { DataFrame } from "./frame.ts";
import { DATA_FRAME_BYTES_MAX, STREAM_WINDOW_BYTES } from "./limits.ts";

/** The peer or the connection ended the transfer. */
export class StreamEndedError extends Error {
  override readonly name = "StreamEndedError";
}

interface Transport {
  send(frame: DataFrame): Promise<void>;
  onEnd(): void;
}

/**
 * A body on its way to the peer, held to what the peer has granted. One writer; each write waits for the one before.
 */
export class OutgoingStream {
  readonly id: number;
  readonly #transport: Transport;
  #offset = 0;
  #granted = STREAM_WINDOW_BYTES;
  #ended: string | null = null;
  #wake: (() => void) | null = null;

  constructor(id: number, transport: Transport) {
    this.id = id;
    this.#transport = transport;
  }

  /** Resolves when the bytes have left. Throws `StreamEndedError` when the peer or the connection ended the stream. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let start = 0; start < bytes.length; ) {
      await this.#waitForCredit();
      const length = Math.min(bytes.length - start, this.#granted - this.#offset, DATA_FRAME_BYTES_MAX);
      await this.#send(bytes.subarray(start, start + length), false, false);
      start += length;
    }
  }

  /** Tells the peer that the body is complete. */
  async end(): Promise<void> {
    await this.#send(new Uint8Array(), true, false);
    this.#finish("the stream has ended");
  }

  /** Gives the body up: the peer's reader throws. The reason is for people. */
  async abort(reason: string): Promise<void> {
    if (this.#ended !== null) return;
    await this.#send(utf8(reason.slice(0, 1024)), true, true);
    this.#finish("the stream was given up");
  }

  /** Writes a whole body that is in memory. The last frame with bytes of it is the stream's last, too. */
  async sendWhole(body: Uint8Array): Promise<void> {
    for (let start = 0, isLast = false; !isLast; ) {
      await this.#waitForCredit();
      const length = Math.min(body.length - start, this.#granted - this.#offset, DATA_FRAME_BYTES_MAX);
      isLast = start + length === body.length;
      await this.#send(body.subarray(start, start + length), isLast, false);
      start += length;
    }
    this.#finish("the stream has ended");
  }

  /** Writes a whole body; an error of the body aborts the stream and is thrown on. */
  async pipe(body: ByteStream): Promise<void> {
    try {
      for await (const chunk of body) await this.write(chunk);
    } catch (error) {
      await this.abort(error instanceof Error ? error.message : String(error));
      throw error;
    }
    await this.end();
  }

  grant(offset: number): void {
    if (offset <= this.#granted) return;
    this.#granted = offset;
    this.#signal();
  }

  /** Ends the stream on this side, without a word to the peer: that is for a control message to say. */
  fail(reason: string): void {
    this.#finish(reason);
  }

  async #waitForCredit(): Promise<void> {
    while (this.#ended === null && this.#offset >= this.#granted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async #send(body: Uint8Array, end: boolean, aborted: boolean): Promise<void> {
    if (this.#ended !== null) throw new StreamEndedError(this.#ended);
    const offset = this.#offset;
    if (!aborted) this.#offset += body.length;
    await this.#transport.send({ stream: this.id, offset, end, aborted, body });
    if (this.#ended !== null) throw new StreamEndedError(this.#ended);
  }

  #finish(reason: string): void {
    if (this.#ended !== null) return;
    this.#ended = reason;
    this.#transport.onEnd();
    this.#signal();
  }

  #signal(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
