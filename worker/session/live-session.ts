import { utf8 } from "#core/lib/bytes.ts";
import type { Clock } from "#core/lib/clock.ts";
import { Semaphore } from "#core/lib/semaphore.ts";
import { Connection } from "#core/protocol/connection.ts";
import { CONTROL_MESSAGE_BYTES_MAX, SERVER_MESSAGE_BYTES_MAX, WORKER_UPLOADS_MAX } from "#core/protocol/limits.ts";
import { parseServerMessage, type ServerMessage } from "#core/protocol/server-messages.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { parseWorkerMessage, type WorkerMessage } from "#core/protocol/worker-messages.ts";

type WorkerTransport = Extract<WorkerMessage, { type: "credit" | "stream_stop" | "heartbeat" }>;
export type OutgoingMessage = Exclude<WorkerMessage, WorkerTransport>;
export type IncomingMessage = Exclude<ServerMessage, { type: "credit" | "stream_stop" | "heartbeat" }>;
export type ServerConnection = Connection<ServerMessage, OutgoingMessage>;

/** The session ended before the answer came. The question may be asked again on the next one. */
export class SessionLostError extends Error {
  override readonly name = "SessionLostError";
}

/** The protocol has no room for what was to be sent, however often it is tried. */
export class UnsendableError extends Error {
  override readonly name = "UnsendableError";
}

export interface LiveSessionOptions {
  readonly socket: Socket;
  readonly clock: Clock;
  readonly silenceTimeoutMs: number;
  /** Messages that are no answers. Called in the order of arrival; must not throw but for broken order. */
  readonly onMessage: (message: IncomingMessage) => void;
  readonly onClose: (reason: string) => void;
}

interface Waiting {
  readonly answer: (message: IncomingMessage) => void;
  readonly reject: (error: Error) => void;
}

/** The worker's end of one session: matches answers to questions, and fails all open ones when the session ends. */
export class LiveSession {
  readonly connection: ServerConnection;
  /** Whoever sends a body beside logs has a place of these, so that no session opens more streams than it may. */
  readonly uploads: Semaphore = new Semaphore(WORKER_UPLOADS_MAX);
  readonly #options: LiveSessionOptions;
  readonly #waiting = new Map<string, Waiting>();
  #nextId = 1;
  #lost: SessionLostError | null = null;

  constructor(options: LiveSessionOptions) {
    this.#options = options;
    this.connection = new Connection({
      socket: options.socket,
      clock: options.clock,
      parse: parseServerMessage,
      onMessage: (message) => this.#receive(message),
      onClose: (reason) => this.#close(reason),
      silenceTimeoutMs: options.silenceTimeoutMs,
      messageBytesMax: SERVER_MESSAGE_BYTES_MAX,
    });
  }

  get socket(): Socket {
    return this.#options.socket;
  }

  get lost(): boolean {
    return this.#lost !== null;
  }

  newId(): number {
    return this.#nextId++;
  }

  send(message: OutgoingMessage): void {
    this.connection.send(message);
  }

  /**
   * Sends a question and resolves with its answer, whose key is `key` (see `answerKey`). Rejects with
   * `SessionLostError`, and with `UnsendableError` for what the server would end the session for.
   */
  ask(message: OutgoingMessage, key: string): Promise<IncomingMessage> {
    return this.askReading(message, key, (answer) => answer);
  }

  /**
   * The same; `read` is called while the answer is handled. A stream that the answer announces must be accepted there:
   * its first frame may be next.
   */
  askReading<T>(message: OutgoingMessage, key: string, read: (answer: IncomingMessage) => T): Promise<T> {
    if (this.#lost) return Promise.reject(this.#lost);
    const unsendable = reasonNotToSend(message);
    if (unsendable !== null) return Promise.reject(new UnsendableError(`${message.type}: ${unsendable}`));
    return new Promise((resolve, reject) => {
      const answered = (answer: IncomingMessage) => {
        try {
          resolve(read(answer));
        } catch (error) {
          reject(new SessionLostError("the answer could not be taken", { cause: error }));
          throw error;
        }
      };
      this.#waiting.set(key, { answer: answered, reject });
      this.send(message);
    });
  }

  /** Nobody waits for this answer any more; its promise is left as it is. */
  forget(key: string): void {
    this.#waiting.delete(key);
  }

  #receive(message: IncomingMessage): void {
    if (message.type === "nar_abort") return this.connection.abortStream(message.stream, message.reason);
    const key = answerKey(message);
    if (key === null) return this.#options.onMessage(message);
    const waiting = this.#waiting.get(key);
    this.#waiting.delete(key);
    if (waiting) waiting.answer(message);
    else if (message.type === "nar_offer") this.connection.refuseStream(message.stream);
  }

  #close(reason: string): void {
    this.#lost = new SessionLostError(`the session ended: ${reason}`);
    for (const { reject } of this.#waiting.values()) reject(this.#lost);
    this.#waiting.clear();
    this.#options.onClose(reason);
  }
}

/** Null when the server will take it. */
export function reasonNotToSend(message: OutgoingMessage): string | null {
  const { length } = utf8(JSON.stringify(message));
  if (length > CONTROL_MESSAGE_BYTES_MAX) return `it is ${length} bytes long, more than ${CONTROL_MESSAGE_BYTES_MAX}`;
  try {
    parseWorkerMessage(message);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** What an answer answers; null for messages that answer nothing. */
export function answerKey(message: IncomingMessage): string | null {
  switch (message.type) {
    case "derivation_status":
    case "cache_status":
    case "query_error":
      return `query ${message.query}`;
    case "nar_offer":
    case "nar_unavailable":
      return `request ${message.request}`;
    case "nar_committed":
    case "nar_refused":
      return `upload ${message.upload}`;
    case "eval_batch_ack":
      return `batch ${message.attempt} ${message.sequence}`;
    case "job_result_ack":
      return `result ${message.attempt}`;
    default:
      return null;
  }
}
