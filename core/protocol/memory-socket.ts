import type { Clock } from "../lib/clock.ts";
import type { Socket } from "./socket.ts";

/**
 * Two sockets joined in memory, with a delay a message that the caller decides: the network of tests and simulations.
 * A message whose delay is null is lost together with the connection, as on TCP.
 */
export function socketPair(clock: Clock, delayMs: () => number | null = () => 0): [Socket, Socket] {
  const left = new MemorySocket(clock, delayMs);
  const right = new MemorySocket(clock, delayMs);
  left.peer = right;
  right.peer = left;
  return [left, right];
}

class MemorySocket implements Socket {
  peer: MemorySocket | null = null;
  onMessage: (data: string | Uint8Array) => void = () => {};
  onClose: (reason: string) => void = () => {};
  readonly #clock: Clock;
  readonly #delayMs: () => number | null;
  #closed = false;
  /** Messages keep their order: none arrives before the one sent before it. */
  #lastArrivalMs = 0;

  constructor(clock: Clock, delayMs: () => number | null) {
    this.#clock = clock;
    this.#delayMs = delayMs;
  }

  send(data: string | Uint8Array): Promise<void> {
    if (this.#closed) return Promise.reject(new Error("socket is closed"));
    const delay = this.#delayMs();
    if (delay === null) {
      this.close(1006, "lost");
      return Promise.reject(new Error("socket is closed"));
    }
    const copy = typeof data === "string" ? data : data.slice();
    this.#later(delay, () => this.peer?.receive(copy));
    return Promise.resolve();
  }

  close(_code: number, reason: string): void {
    if (this.#closed) return;
    const peer = this.peer;
    this.#later(this.#delayMs() ?? 0, () => peer?.end(reason));
    this.end(reason);
  }

  receive(data: string | Uint8Array): void {
    if (!this.#closed) this.onMessage(data);
  }

  end(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClose(reason);
  }

  #later(delayMs: number, action: () => void): void {
    const now = this.#clock.monotonic();
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, now + delayMs);
    this.#clock.schedule(this.#lastArrivalMs - now, action);
  }
}
