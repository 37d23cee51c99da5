import { connect, type Socket } from "node:net";
import { assert } from "#core/lib/assert.ts";
import { concatBytes } from "#core/lib/bytes.ts";
import { sleep, systemClock } from "#core/lib/clock.ts";
import { DaemonConnectionError } from "#core/nix/daemon/errors.ts";
import type { ByteSource } from "#core/nix/daemon/reader.ts";

/** Bytes received ahead of their reader; beyond it the socket is paused, and the daemon waits. */
const RECEIVED_BYTES_MAX = 256 * 1024;

/** `sun_path` of unix(7) is 108 bytes with the final zero. */
const SOCKET_PATH_BYTES_MAX = 107;

/** A daemon that takes nobody for 5 s is not busy but stuck. */
const BACKLOG_PAUSE_MS = 20;
const BACKLOG_RETRIES_MAX = 250;

/**
 * How long nothing must have arrived before a socket in use is closed. Nix 2.34 misses a hang-up that comes while it
 * is about to wait for its builder, as it is right after it sent us a line: a builder that then stays silent runs on
 * to its end (3 of 12 tries without the pause, none with 1 ms).
 */
const QUIET_MS = 50;
/** A builder that never pauses is ended by its next line. */
const QUIET_MS_MAX = 500;

const NOTHING: Uint8Array = new Uint8Array();

/** A Unix socket that is read at the reader's pace. One read and one write at a time. */
export class DaemonSocket implements ByteSource {
  readonly #socket: Socket;
  readonly path: string;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #paused = false;
  #hangUpSoon: (() => void) | null = null;
  #end: Error | null = null;
  #wakeReader: (() => void) | null = null;
  #wakeWriter: (() => void) | null = null;

  /** Throws `DaemonConnectionError` when nobody answers at the path, and the signal's reason when it is aborted. */
  static async connect(path: string, signal?: AbortSignal): Promise<DaemonSocket> {
    signal?.throwIfAborted();
    if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
      throw new DaemonConnectionError(path, `the path of a socket has at most ${SOCKET_PATH_BYTES_MAX} bytes: ${path}`);
    }
    for (let retriesLeft = BACKLOG_RETRIES_MAX; ; retriesLeft--) {
      try {
        return new DaemonSocket(await openSocket(path, signal), path);
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        // More have asked than the daemon has taken yet, and its queue is short (unix(7)): there is room in a moment.
        const isQueueFull = error instanceof Error && "code" in error && error.code === "EAGAIN";
        if (!isQueueFull || retriesLeft === 0) {
          throw new DaemonConnectionError(path, describeConnectError(path, error), { cause: error });
        }
        await sleep(systemClock, BACKLOG_PAUSE_MS, signal);
      }
    }
  }

  /** Whether somebody listens. The file alone says nothing: it is there a moment before. */
  static async isAnswered(path: string): Promise<boolean> {
    try {
      (await DaemonSocket.connect(path)).destroy();
      return true;
    } catch (error) {
      if (error instanceof DaemonConnectionError) return false;
      throw error;
    }
  }

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.path = path;
    socket.on("data", (chunk: Buffer) => {
      if (this.#hangUpSoon) {
        this.#hangUpSoon();
        return;
      }
      this.#received.push(chunk);
      this.#receivedBytes += chunk.length;
      if (this.#receivedBytes >= RECEIVED_BYTES_MAX) {
        this.#paused = true;
        socket.pause();
      }
      this.#wake();
    });
    socket.on("drain", () => this.#wake());
    socket.on("end", () => this.#finish("the nix-daemon closed the connection"));
    socket.on("error", (error) => this.#finish(`the connection to the nix-daemon broke: ${error.message}`, error));
    socket.on("close", () => this.#finish("the connection to the nix-daemon is closed"));
  }

  /** Nothing can be sent any more. What arrived before can still be read. */
  get ended(): boolean {
    return this.#end !== null;
  }

  /** Bytes that arrived and were not read yet. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  get arrived(): Uint8Array {
    return this.#received[0] ?? NOTHING;
  }

  skipArrived(length: number): void {
    // It may have been closed while they were looked at.
    if (this.#received.length > 0) this.#take(length);
  }

  async read(length: number): Promise<Uint8Array> {
    assert(length <= RECEIVED_BYTES_MAX, `${length} bytes cannot be read at once`);
    while (this.#receivedBytes < length) await this.#more();
    return this.#take(length);
  }

  /** What is there, at least one and at most `maxBytes` bytes. */
  async readSome(maxBytes: number): Promise<Uint8Array> {
    while (this.#receivedBytes === 0) await this.#more();
    return this.#take(Math.min(maxBytes, (this.#received[0] as Buffer).length));
  }

  /** Resolves when the daemon has taken enough that more may be sent. */
  async write(...parts: readonly Uint8Array[]): Promise<void> {
    if (this.#end) throw this.#end;
    this.#socket.cork();
    for (const part of parts) this.#socket.write(part);
    this.#socket.uncork();
    while (this.#socket.writableNeedDrain) {
      await new Promise<void>((resolve) => {
        this.#wakeWriter = resolve;
      });
      if (this.#end) throw this.#end;
    }
  }

  /** Closes at once. Reading and writing fail from now on. */
  destroy(): void {
    this.#drop();
    if (!this.#hangUpSoon) this.#socket.destroy();
  }

  /**
   * Closes in a way that the daemon notices in the middle of its work: it then ends what it does for this connection,
   * a running build included. Reading and writing fail from now on; the socket itself is closed when it is quiet.
   */
  hangUp(): void {
    if (this.#hangUpSoon || this.#socket.destroyed) return;
    this.#drop();
    const close = () => {
      clearTimeout(quiet);
      clearTimeout(last);
      this.#socket.destroy();
    };
    let quiet = setTimeout(close, QUIET_MS);
    const last = setTimeout(close, QUIET_MS_MAX);
    this.#hangUpSoon = () => {
      clearTimeout(quiet);
      quiet = setTimeout(close, QUIET_MS);
    };
    this.#socket.once("close", close).resume();
  }

  #take(length: number): Uint8Array {
    this.#receivedBytes -= length;
    if (this.#paused && this.#receivedBytes < RECEIVED_BYTES_MAX) {
      this.#paused = false;
      this.#socket.resume();
    }
    const parts: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      const first = this.#received[0] as Buffer;
      const part = first.subarray(0, missing);
      if (part.length === first.length) this.#received.shift();
      else this.#received[0] = first.subarray(part.length);
      parts.push(part);
      missing -= part.length;
    }
    return parts.length === 1 ? (parts[0] as Buffer) : concatBytes(parts);
  }

  #drop(): void {
    this.#finish("the connection to the nix-daemon was closed");
    this.#received = [];
    this.#receivedBytes = 0;
  }

  async #more(): Promise<void> {
    if (this.#end) throw this.#end;
    await new Promise<void>((resolve) => {
      this.#wakeReader = resolve;
    });
  }

  #finish(message: string, cause?: Error): void {
    this.#end ??= new DaemonConnectionError(this.path, `${message} (${this.path})`, { cause });
    this.#wake();
  }

  #wake(): void {
    const [reader, writer] = [this.#wakeReader, this.#wakeWriter];
    this.#wakeReader = null;
    this.#wakeWriter = null;
    reader?.();
    writer?.();
  }
}

async function openSocket(path: string, signal: AbortSignal | undefined): Promise<Socket> {
  signal?.throwIfAborted();
  const socket = connect({ path });
  const abort = () => socket.destroy(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("closed")));
    });
    return socket;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

function describeConnectError(path: string, error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "ENOENT":
      return `there is no socket at ${path}: start the nix-daemon, or set NIX_REMOTE=unix://SOCKET to where it listens`;
    case "ECONNREFUSED":
      return `nobody listens at ${path}: the nix-daemon is not running (a socket file was left behind)`;
    case "EACCES":
    case "EPERM":
      return `this user may not open ${path}: grant access to the socket and its folder`;
    default:
      return `cannot connect to the nix-daemon at ${path}: ${error instanceof Error ? error.message : String(error)}`;
  }
}
