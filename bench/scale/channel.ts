import type { Socket as Stream } from "node:net";
import type { Socket } from "#core/protocol/socket.ts";

const HEADER_BYTES = 9;
const TEXT = 0;
const BINARY = 1;
const CLOSE = 2;

/**
 * Many of the protocol's sockets over one stream between two processes, as if each were a socket in memory: what is
 * sent in one turn of the event loop goes out as one write. So the figures are those of the hub and of the workers, and
 * not those of a WebSocket library on one machine.
 *
 *     4 bytes length of the body, 4 bytes number of the socket, 1 byte kind, body
 */
export class Channel {
  readonly #stream: Stream;
  readonly #sockets = new Map<number, ChannelSocket>();
  readonly #accept: (socket: Socket) => void;
  #received: Buffer = Buffer.alloc(0);
  #outgoing: Buffer[] = [];
  #waiting: (() => void)[] = [];
  #next = 1;

  /** `accept` is given each socket that the other side opens, which it does by sending something. */
  constructor(stream: Stream, accept: (socket: Socket) => void) {
    this.#stream = stream;
    this.#accept = accept;
    stream.on("drain", () => {
      for (const resolve of this.#waiting.splice(0)) resolve();
    });
    stream.on("data", (bytes: Buffer) => this.#receive(bytes));
    stream.on("close", () => {
      for (const socket of [...this.#sockets.values()]) socket.ended("the other process has ended");
    });
  }

  open(): Socket {
    return this.#add(this.#next++);
  }

  send(socket: number, kind: number, body: Buffer): Promise<void> {
    const header = Buffer.allocUnsafe(HEADER_BYTES);
    header.writeUInt32BE(body.length, 0);
    header.writeUInt32BE(socket, 4);
    header.writeUInt8(kind, 8);
    if (this.#outgoing.push(header, body) === 2) setImmediate(() => this.#flush());
    if (!this.#stream.writableNeedDrain) return Promise.resolve();
    return new Promise((resolve) => void this.#waiting.push(resolve));
  }

  forget(socket: number): void {
    this.#sockets.delete(socket);
  }

  #flush(): void {
    const parts = this.#outgoing;
    this.#outgoing = [];
    this.#stream.write(Buffer.concat(parts));
  }

  #add(number: number): ChannelSocket {
    const socket = new ChannelSocket(this, number);
    this.#sockets.set(number, socket);
    return socket;
  }

  #receive(bytes: Buffer): void {
    const all = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes]);
    let at = 0;
    while (all.length - at >= HEADER_BYTES) {
      const length = all.readUInt32BE(at);
      if (all.length - at < HEADER_BYTES + length) break;
      const body = all.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
      this.#handle(all.readUInt32BE(at + 4), all.readUInt8(at + 8), body);
      at += HEADER_BYTES + length;
    }
    this.#received = all.subarray(at);
  }

  #handle(number: number, kind: number, body: Buffer): void {
    let socket = this.#sockets.get(number);
    if (!socket && kind === CLOSE) return;
    if (!socket) {
      socket = this.#add(number);
      this.#accept(socket);
    }
    if (kind === CLOSE) socket.ended(body.toString());
    else socket.onMessage(kind === TEXT ? body.toString() : new Uint8Array(body.buffer, body.byteOffset, body.length));
  }
}

class ChannelSocket implements Socket {
  onMessage: (data: string | Uint8Array) => void = () => {};
  onClose: (reason: string) => void = () => {};
  readonly #channel: Channel;
  readonly #number: number;
  #closed = false;

  constructor(channel: Channel, number: number) {
    this.#channel = channel;
    this.#number = number;
  }

  send(data: string | Uint8Array): Promise<void> {
    if (this.#closed) return Promise.reject(new Error("socket is closed"));
    if (typeof data === "string") return this.#channel.send(this.#number, TEXT, Buffer.from(data));
    return this.#channel.send(this.#number, BINARY, Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  }

  close(_code: number, reason: string): void {
    if (this.#closed) return;
    void this.#channel.send(this.#number, CLOSE, Buffer.from(reason));
    this.ended(reason);
  }

  ended(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#channel.forget(this.#number);
    this.onClose(reason);
  }
}
