import type { Clock } from "../lib/clock.ts";
import type { ByteStream } from "../lib/streams.ts";
import { decodeFrame, encodeFrame } from "./frame.ts";
import { IncomingStream } from "./incoming-stream.ts";
import { Lanes } from "./lanes.ts";
import {
  CONTROL_MESSAGE_BYTES_MAX,
  DATA_FRAME_BYTES_MAX,
  HEARTBEAT_INTERVAL_MS,
  STREAMS_OPEN_MAX,
  UNREAD_BYTES_MAX,
  WAITING_LENGTH_MAX,
  WAITING_MESSAGES_MAX,
} from "./limits.ts";
import { OutgoingStream, StreamEndedError } from "./outgoing-stream.ts";
import type { Socket } from "./socket.ts";

/** Messages that the connection itself deals with; neither side's handler sees them. */
type TransportMessage =
  | { readonly type: "credit"; readonly stream: number; readonly offset: number }
  | { readonly type: "stream_stop"; readonly stream: number }
  | { readonly type: "heartbeat" };

export interface ConnectionOptions<In extends { readonly type: string }> {
  readonly socket: Socket;
  readonly clock: Clock;
  /** Turns JSON into a message, or throws with what was wrong with it. */
  readonly parse: (value: unknown) => In | TransportMessage;
  /**
   * Called for each message in the order of arrival, on the read loop: a handler that has something to wait for
   * starts it and returns. A throw closes the connection, and so does a rejection. A promise tells when the message
   * is dealt with: those that wait are counted, and a peer that sends more of them than `limits.ts` allows is cut off.
   */
  readonly onMessage: (message: Exclude<In, TransportMessage>) => void | Promise<void>;
  /** Called once, whatever ended the connection. */
  readonly onClose: (reason: string) => void;
  /** Nothing at all was heard for this long: the peer is gone. */
  readonly silenceTimeoutMs: number;
  /** The longest control message that is taken. By default `CONTROL_MESSAGE_BYTES_MAX`. */
  readonly messageBytesMax?: number;
}

/**
 * One end of a /proto session: control messages as JSON text that overtake data; data in streams with flow control by
 * credit, so that a slow reader holds back one transfer and never the session. It knows no particular message but its
 * own three, no sockets and no clock of its own.
 */
export class Connection<In extends { readonly type: string }, Out extends { readonly type: string }> {
  readonly #options: ConnectionOptions<In>;
  readonly #lanes: Lanes;
  readonly #incoming = new Map<number, IncomingStream>();
  readonly #outgoing = new Map<number, OutgoingStream>();
  #nextStream = 1;
  readonly #waiting = { messages: 0, length: 0 };
  /** Of streams that their sender has ended, too: those count as open no longer. */
  #unreadBytes = 0;
  #closed: string | null = null;
  #lastHeardMs: number;
  #cancelHeartbeat: () => void = () => {};

  constructor(options: ConnectionOptions<In>) {
    this.#options = options;
    this.#lanes = new Lanes(options.socket, options.clock, (reason) => this.close(1011, reason));
    this.#lastHeardMs = options.clock.monotonic();
    options.socket.onMessage = (data) => this.#receive(data);
    options.socket.onClose = (reason) => this.#finish(reason);
    this.#heartbeat();
  }

  get closed(): boolean {
    return this.#closed !== null;
  }

  /** Queues a control message. After the connection has ended it does nothing: `onClose` has told. */
  send(message: Out): void {
    if (this.#closed === null) this.#lanes.control(JSON.stringify(message));
  }

  /**
   * Opens a stream of ours. Announce its id in a control message before the first write: control overtakes data, so
   * the peer knows the stream when its first frame arrives.
   */
  openStream(): OutgoingStream {
    const id = this.#nextStream++;
    const stream = new OutgoingStream(id, {
      send: (frame) => this.#lanes.bulk(encodeFrame(frame)),
      onEnd: () => this.#outgoing.delete(id),
    });
    if (this.#closed !== null) stream.fail(this.#closed);
    else this.#outgoing.set(id, stream);
    return stream;
  }

  /**
   * The peer's stream of that id, which a message of the peer has just announced. To be called while that message is
   * handled. The stream ends with an error when the connection does; ending the iteration early tells the peer to stop.
   */
  acceptStream(id: number): ByteStream {
    if (this.#incoming.has(id)) throw new Error(`stream ${id} was announced twice`);
    if (this.#incoming.size >= STREAMS_OPEN_MAX) throw new Error("too many open streams");
    const stream = new IncomingStream({
      grant: (offset) => this.#transport({ type: "credit", stream: id, offset }),
      stop: () => this.#transport({ type: "stream_stop", stream: id }),
      onEnd: () => this.#incoming.delete(id),
      onWaiting: (bytes) => {
        this.#unreadBytes += bytes;
      },
    });
    if (this.#closed !== null) stream.fail(new Error(this.#closed));
    else this.#incoming.set(id, stream);
    return stream;
  }

  /** The peer has said that it ends this stream early: its reader throws. */
  abortStream(id: number, reason: string): void {
    this.#incoming.get(id)?.fail(new StreamEndedError(`the sender gave up: ${reason}`));
  }

  /** Refuses a stream that was announced: the peer stops sending it. */
  refuseStream(id: number): void {
    this.#transport({ type: "stream_stop", stream: id });
  }

  /** Sends what is queued on the control lane, then closes. `code` is a WebSocket close code. */
  close(code: number, reason: string): void {
    if (this.#closed !== null) return;
    this.#lanes.flushControl();
    this.#options.socket.close(code, reason);
    this.#finish(reason);
  }

  #transport(message: TransportMessage): void {
    if (this.#closed === null) this.#lanes.control(JSON.stringify(message));
  }

  #receive(data: string | Uint8Array): void {
    if (this.#closed !== null) return;
    this.#lastHeardMs = this.#options.clock.monotonic();
    try {
      if (typeof data === "string") this.#receiveControl(data);
      else this.#receiveData(data);
    } catch (error) {
      this.#breach(error);
    }
  }

  /** The peer is told what it did wrong. */
  #breach(error: unknown): void {
    if (this.#closed !== null) return;
    const reason = error instanceof Error ? error.message : String(error);
    this.#lanes.control(JSON.stringify({ type: "error", code: 400, message: reason.slice(0, 8192) }));
    this.close(1008, reason);
  }

  #receiveControl(text: string): void {
    if (text.length > (this.#options.messageBytesMax ?? CONTROL_MESSAGE_BYTES_MAX))
      throw new Error("control message is larger than allowed");
    const message = this.#options.parse(JSON.parse(text));
    if (isTransport(message)) this.#receiveTransport(message);
    else this.#count(text.length, this.#options.onMessage(message as Exclude<In, TransportMessage>));
  }

  #count(length: number, dealtWith: void | Promise<void>): void {
    if (!dealtWith) return;
    this.#waiting.messages++;
    this.#waiting.length += length;
    const done = () => {
      this.#waiting.messages--;
      this.#waiting.length -= length;
    };
    dealtWith.then(done, (error: unknown) => {
      done();
      this.#breach(error);
    });
    const { messages, length: waiting } = this.#waiting;
    if (messages > WAITING_MESSAGES_MAX || waiting > WAITING_LENGTH_MAX) {
      throw new Error(`too many messages: ${messages} of ${waiting} characters wait to be dealt with`);
    }
  }

  #receiveTransport(message: TransportMessage): void {
    switch (message.type) {
      case "credit":
        return this.#outgoing.get(message.stream)?.grant(message.offset);
      case "stream_stop":
        return this.#outgoing.get(message.stream)?.fail("the peer stopped the transfer");
      case "heartbeat":
        return;
    }
  }

  #receiveData(bytes: Uint8Array): void {
    const frame = decodeFrame(bytes, DATA_FRAME_BYTES_MAX);
    // Frames of a stream that ended on this side are still under way: they are dropped.
    this.#incoming.get(frame.stream)?.receive(frame);
    if (this.#unreadBytes > UNREAD_BYTES_MAX) throw new Error(`more than ${UNREAD_BYTES_MAX} bytes wait to be read`);
  }

  #heartbeat(): void {
    const dueMs = this.#options.clock.monotonic() + HEARTBEAT_INTERVAL_MS;
    this.#cancelHeartbeat = this.#options.clock.schedule(HEARTBEAT_INTERVAL_MS, () => {
      if (this.#closed !== null) return;
      const nowMs = this.#options.clock.monotonic();
      const silentMs = nowMs - this.#lastHeardMs;
      // Whoever slept himself has heard nothing yet of what has come meanwhile.
      if (silentMs > this.#options.silenceTimeoutMs && nowMs - dueMs < HEARTBEAT_INTERVAL_MS) {
        return this.close(1001, `nothing was heard for ${Math.round(silentMs / 1000)} s`);
      }
      this.#transport({ type: "heartbeat" });
      this.#heartbeat();
    });
  }

  #finish(reason: string): void {
    if (this.#closed !== null) return;
    this.#closed = reason;
    this.#cancelHeartbeat();
    this.#lanes.stop();
    for (const stream of [...this.#outgoing.values()]) stream.fail(reason);
    for (const stream of [...this.#incoming.values()]) stream.fail(new Error(`connection ended: ${reason}`));
    this.#options.onClose(reason);
  }
}

function isTransport(message: { readonly type: string }): message is TransportMessage {
  return message.type === "credit" || message.type === "stream_stop" || message.type === "heartbeat";
}
