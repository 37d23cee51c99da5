import type { Clock } from "../lib/clock.ts";
import {
  BULK_QUEUE_MAX,
  CONTROL_QUEUE_LENGTH_MAX,
  CONTROL_QUEUE_MAX,
  DATA_FRAME_BYTES_MAX,
  SEND_TIMEOUT_MS,
} from "./limits.ts";
import type { Socket } from "./socket.ts";

interface BulkFrame {
  readonly bytes: Uint8Array;
  readonly sent: () => void;
}

/**
 * The two lanes of a connection. What is with the socket is one message, or several that are no longer together than a
 * data frame: each costs the machine a call. The next is a control message if there is one. A data frame's promise
 * resolves when the frame has left, which is what paces its sender.
 */
export class Lanes {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #stalled: (reason: string) => void;
  #control: string[] = [];
  #controlLength = 0;
  readonly #bulk: BulkFrame[] = [];
  readonly #waitingForRoom: (() => void)[] = [];
  #running = false;
  #stopped = false;

  constructor(socket: Socket, clock: Clock, stalled: (reason: string) => void) {
    this.#socket = socket;
    this.#clock = clock;
    this.#stalled = stalled;
  }

  control(text: string): void {
    if (this.#stopped) return;
    this.#controlLength += text.length;
    if (this.#control.length >= CONTROL_QUEUE_MAX || this.#controlLength > CONTROL_QUEUE_LENGTH_MAX) {
      return this.#stalled("the peer has stalled: too many control messages wait for it");
    }
    this.#control.push(text);
    this.#run();
  }

  /** Resolves when the frame has left, or when the connection has ended. */
  async bulk(bytes: Uint8Array): Promise<void> {
    while (this.#bulk.length >= BULK_QUEUE_MAX && !this.#stopped) {
      await new Promise<void>((resolve) => this.#waitingForRoom.push(resolve));
    }
    if (this.#stopped) return;
    await new Promise<void>((sent) => {
      this.#bulk.push({ bytes, sent });
      this.#run();
    });
  }

  /** Hands every control message to the socket at once: it is about to be closed. */
  flushControl(): void {
    const texts = this.#control;
    this.#control = [];
    this.#controlLength = 0;
    for (const text of texts) this.#socket.send(text).catch(() => {});
  }

  stop(): void {
    this.#stopped = true;
    this.#control = [];
    for (const { sent } of this.#bulk.splice(0)) sent();
    for (const resolve of this.#waitingForRoom.splice(0)) resolve();
  }

  #run(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#drain();
  }

  async #drain(): Promise<void> {
    while (!this.#stopped) {
      const { messages, frames } = this.#next();
      if (messages.length === 0) break;
      await this.#sendWithin(messages);
      for (const { sent } of frames) {
        sent();
        this.#waitingForRoom.shift()?.();
      }
    }
    this.#running = false;
  }

  /** What goes to the socket now, in its order. */
  #next(): { readonly messages: readonly (string | Uint8Array)[]; readonly frames: readonly BulkFrame[] } {
    const messages: (string | Uint8Array)[] = [];
    const frames: BulkFrame[] = [];
    for (let length = 0; messages.length === 0 || this.#socket.sendAll; ) {
      const [text, frame] = [this.#control[0], this.#bulk[0]];
      const next = text ?? frame?.bytes;
      if (next === undefined || (messages.length > 0 && length + next.length > DATA_FRAME_BYTES_MAX)) break;
      length += next.length;
      messages.push(next);
      if (text !== undefined) {
        this.#control.shift();
        this.#controlLength -= text.length;
      } else if (frame !== undefined) {
        this.#bulk.shift();
        frames.push(frame);
      }
    }
    return { messages, frames };
  }

  async #sendWithin(messages: readonly (string | Uint8Array)[]): Promise<void> {
    const cancel = this.#clock.schedule(SEND_TIMEOUT_MS, () => this.#stalled("the peer has stalled: it reads nothing"));
    try {
      const [first] = messages;
      if (messages.length === 1 && first !== undefined) await this.#socket.send(first);
      else await this.#socket.sendAll?.(messages);
    } catch {
      // The socket is closed; its `onClose` ends the connection.
      this.#stopped = true;
    } finally {
      cancel();
    }
  }
}
