import { setTimeout as sleep } from "node:timers/promises";
import { assert } from "#core/lib/assert.ts";
import { MINUTE, SECOND } from "#core/lib/clock.ts";
import { DaemonConnectionError, DaemonError, DaemonProtocolError } from "#core/nix/daemon/errors.ts";
import type { DaemonEventHandler } from "#core/nix/daemon/events.ts";
import { readUntilAnswer } from "#core/nix/daemon/frames.ts";
import {
  type DaemonGreeting,
  encodeHello,
  encodeIntroduction,
  readHello,
  readIntroduction,
} from "#core/nix/daemon/handshake.ts";
import { Operation, type OperationName } from "#core/nix/daemon/numbers.ts";
import { DaemonReader } from "#core/nix/daemon/reader.ts";
import { DaemonWriter } from "#core/nix/daemon/writer.ts";
import { STORE_DIR } from "#core/nix/store-path.ts";
import { DaemonSocket } from "./socket.ts";

export interface OperationOptions {
  /** Aborting closes the connection, which ends the operation in the daemon too; it then rejects with the reason. */
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: DaemonEventHandler | undefined;
}

/** The ends of the connection while one operation has it. */
export interface OperationChannel {
  readonly socket: DaemonSocket;
  readonly reader: DaemonReader;
  readonly minor: number;
  /** Reads up to the answer, handing events to the operation's handler. Throws `DaemonError` on a refusal. */
  untilAnswer(): Promise<void>;
}

const HANDSHAKE_MS_MAX = MINUTE;
/**
 * Pauses before a connection that broke in its handshake is tried again. Daemons of Nix 2.26 that lay out a new store
 * at the same time get into each other's way, and one of them dies; one that is just being restarted does, too.
 */
const HANDSHAKE_PAUSES_MS = [50, 250];
/** A daemon that is well answers within a millisecond. */
const PROBE_MS_MAX = 10 * SECOND;
/** A path that no store has. */
const PROBE_PATH = `${STORE_DIR}/${"0".repeat(32)}-probe`;

class HandshakeBrokenError extends DaemonConnectionError {}

/**
 * One conversation with the daemon, one operation at a time.
 *
 *     idle --begin--> busy --answer read to its end, or refused with an error frame and still in step--> idle
 *                       \--anything else (abort, broken socket, unexpected bytes, the caller stopped early)--> closed
 *
 * A session that was left in the middle of an operation is never used again: its next answer would be the rest of
 * the previous one.
 */
export class DaemonSession {
  readonly greeting: DaemonGreeting;
  readonly #socket: DaemonSocket;
  readonly #reader: DaemonReader;
  #busy = false;
  #closed = false;

  static async open(socketPath: string, signal?: AbortSignal): Promise<DaemonSession> {
    const timeout = AbortSignal.timeout(HANDSHAKE_MS_MAX);
    const limit = signal ? AbortSignal.any([signal, timeout]) : timeout;
    try {
      return await DaemonSession.#openPatiently(socketPath, limit);
    } catch (error) {
      signal?.throwIfAborted();
      if (!timeout.aborted) throw error;
      const message = `the nix-daemon at ${socketPath} did not answer within ${HANDSHAKE_MS_MAX / SECOND} s`;
      throw new DaemonConnectionError(socketPath, message, { cause: error });
    }
  }

  static async #openPatiently(socketPath: string, signal: AbortSignal): Promise<DaemonSession> {
    for (const pauseMs of HANDSHAKE_PAUSES_MS) {
      try {
        return await DaemonSession.#open(socketPath, signal);
      } catch (error) {
        if (!(error instanceof HandshakeBrokenError)) throw error;
        await sleep(pauseMs, undefined, { signal });
      }
    }
    return await DaemonSession.#open(socketPath, signal);
  }

  static async #open(socketPath: string, signal: AbortSignal): Promise<DaemonSession> {
    const socket = await DaemonSocket.connect(socketPath, signal);
    const abort = () => socket.destroy();
    signal.addEventListener("abort", abort, { once: true });
    try {
      const reader = new DaemonReader(socket);
      await socket.write(encodeHello());
      const minor = await readHello(reader);
      await socket.write(encodeIntroduction(minor));
      const greeting = await readIntroduction(reader, minor);
      await readUntilAnswer(reader);
      return new DaemonSession(socket, reader, greeting);
    } catch (error) {
      socket.destroy();
      if (!(error instanceof DaemonConnectionError)) throw error;
      const message = `${error.message} during the handshake: is this user in the daemon's allowed-users?`;
      throw new HandshakeBrokenError(socketPath, message, { cause: error });
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  private constructor(socket: DaemonSocket, reader: DaemonReader, greeting: DaemonGreeting) {
    this.#socket = socket;
    this.#reader = reader;
    this.greeting = greeting;
  }

  /** Whether another operation may begin. A daemon that died unnoticed is found by `probe`. */
  get usable(): boolean {
    return !this.#busy && !this.#closed && !this.#socket.ended && this.#socket.receivedBytes === 0;
  }

  /** Sends a request and reads its answer. Throws `DaemonError` when the daemon refuses. */
  request<T>(
    name: OperationName,
    write: (writer: DaemonWriter) => void,
    readAnswer: (reader: DaemonReader, minor: number) => Promise<T>,
    options: OperationOptions = {},
  ): Promise<T> {
    return this.run(options, async ({ socket, reader, minor, untilAnswer }) => {
      const writer = new DaemonWriter().word(Operation[name]);
      write(writer);
      await socket.write(writer.finish());
      await untilAnswer();
      return await readAnswer(reader, minor);
    });
  }

  /** Gives the connection to an operation that must read everything the daemon answers. */
  async run<T>(options: OperationOptions, operate: (channel: OperationChannel) => Promise<T>): Promise<T> {
    const operation = this.begin(options);
    try {
      const result = await operate(operation.channel);
      operation.finish();
      return result;
    } catch (error) {
      throw await operation.fail(error);
    }
  }

  /** The long form of `run`, for an operation whose answer is a stream. Ends with `finish`, `fail` or `abandon`. */
  begin({ signal, onEvent }: OperationOptions): RunningOperation {
    signal?.throwIfAborted();
    assert(!this.#busy, "one operation at a time on a connection to the nix-daemon");
    const [socket, reader] = [this.#socket, this.#reader];
    if (!this.usable) {
      this.close();
      throw new DaemonConnectionError(socket.path, `the connection to the nix-daemon is closed (${socket.path})`);
    }
    this.#busy = true;
    const abort = () => this.close();
    signal?.addEventListener("abort", abort, { once: true });
    const leave = () => {
      this.#busy = false;
      signal?.removeEventListener("abort", abort);
    };
    return {
      channel: {
        socket,
        reader,
        minor: this.greeting.minor,
        untilAnswer: () => readUntilAnswer(reader, onEvent && this.#closingOnError(onEvent)),
      },
      finish: () => {
        leave();
        if (socket.receivedBytes > 0) this.close();
      },
      fail: async (error) => {
        const inStep = error instanceof DaemonError && (await this.#stillInStep());
        leave();
        if (!inStep) this.close();
        return signal?.aborted ? signal.reason : error;
      },
      abandon: () => {
        leave();
        this.close();
      },
    };
  }

  /** Whether the daemon still answers. When it does not, the session is closed. */
  async probe(): Promise<boolean> {
    if (!this.usable) return false;
    this.#busy = true;
    const alive = await this.#stillInStep();
    this.#busy = false;
    if (!alive) this.close();
    return alive;
  }

  /** An operation that runs ends in the daemon too. */
  close(): void {
    this.#closed = true;
    if (this.#busy) this.#socket.hangUp();
    else this.#socket.destroy();
  }

  /** A handler that throws leaves the answer unread, whatever it throws. */
  #closingOnError(onEvent: DaemonEventHandler): DaemonEventHandler {
    const failed = (error: unknown): never => {
      this.close();
      throw error;
    };
    return (event) => {
      try {
        return onEvent(event)?.catch(failed);
      } catch (error) {
        return failed(error);
      }
    };
  }

  /**
   * After a refusal the daemon either waits for the next request, or (when it could not even read the request) repeats
   * the error and hangs up. A question with a known answer tells the two apart.
   */
  async #stillInStep(): Promise<boolean> {
    const [socket, reader] = [this.#socket, this.#reader];
    if (socket.ended || socket.receivedBytes > 0) return false;
    const timer = setTimeout(() => socket.destroy(), PROBE_MS_MAX);
    try {
      await socket.write(new DaemonWriter().word(Operation.isValidPath).text(PROBE_PATH).finish());
      await readUntilAnswer(reader);
      const valid = await reader.boolean("probe");
      if (valid) throw new DaemonProtocolError("the daemon answered something else");
      return socket.receivedBytes === 0;
    } catch {
      return false;
    } finally {
      clearTimeout(timer);
    }
  }
}

export interface RunningOperation {
  readonly channel: OperationChannel;
  /** The whole answer was read. */
  finish(): void;
  /** Returns what to throw: the error, or the signal's reason when that is why. */
  fail(error: unknown): Promise<unknown>;
  /** The answer was not read to its end. */
  abandon(): void;
}
