import type { OutgoingStream } from "#core/protocol/outgoing-stream.ts";
import type { LiveSession } from "./live-session.ts";
import { LogSpool } from "./log-spool.ts";

/** Less than this is followed by a pause, in which what is written next gathers: a line alone costs a whole message. */
const GATHERED_BYTES = 32 * 1024;
/** Nobody sees a line later for it: the server writes what it has five times a second. */
const GATHER_MS = 25;

export interface AttemptLogOptions {
  readonly attemptId: string;
  readonly spoolPath: string;
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** The log of an attempt on its way to the server, over as many sessions as it takes. */
export class AttemptLog {
  readonly #options: AttemptLogOptions;
  readonly #spool: LogSpool;
  #sent: Promise<void> = Promise.resolve();
  #gathering: AbortController | null = null;

  constructor(options: AttemptLogOptions) {
    this.#options = options;
    this.#spool = new LogSpool(options.spoolPath);
  }

  append(bytes: Uint8Array): void {
    this.#spool.append(bytes);
  }

  /** Resolves when all of it has left on the session of now, or nothing more will; after `end`. */
  get sent(): Promise<void> {
    return this.#sent;
  }

  /** Sends on this session what there is from this byte on, and what comes. */
  send(session: LiveSession, from: number): void {
    this.#sent = this.#send(session, from);
  }

  end(): void {
    this.#spool.end();
    this.#gathering?.abort();
  }

  /** It was ended too soon. */
  goOn(session: LiveSession): void {
    if (!this.#spool.ended) return;
    this.#spool.reopen();
    this.send(session, this.#spool.length);
  }

  async close(): Promise<void> {
    await this.#spool.close();
  }

  async #send(session: LiveSession, from: number): Promise<void> {
    let stream: OutgoingStream | null = null;
    try {
      const first = await this.#spool.read(from);
      if (first === null || session.lost) return;
      stream = session.connection.openStream();
      session.send({ type: "log_open", attempt: this.#options.attemptId, offset: from, stream: stream.id });
      let offset = from;
      for (let bytes: Uint8Array | null = first; bytes !== null; bytes = await this.#spool.read(offset)) {
        await stream.write(bytes);
        offset += bytes.length;
        if (bytes.length < GATHERED_BYTES) await this.#gather();
      }
      await stream.end();
    } catch (error) {
      // The session ended, the server wants no more of the log, or the spool cannot be read: the build goes on.
      await stream?.abort(error instanceof Error ? error.message : String(error)).catch(() => {});
    }
  }

  async #gather(): Promise<void> {
    if (this.#spool.ended) return;
    this.#gathering = new AbortController();
    await this.#options.pause(GATHER_MS, this.#gathering.signal);
  }
}
