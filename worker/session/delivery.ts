import { Semaphore } from "#core/lib/semaphore.ts";
import { type OutgoingStream, StreamEndedError } from "#core/protocol/outgoing-stream.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import type { Upload } from "../link.ts";
import type { IncomingMessage, LiveSession } from "./live-session.ts";

export interface DeliveryParts {
  readonly attemptId: string;
  readonly uploads: readonly Upload[];
  readonly result: BuildResult;
  /** Resolves when the attempt's log has left. */
  readonly logSent: Promise<void>;
  readonly signal: AbortSignal;
}

type Refusal = Extract<IncomingMessage, { type: "nar_refused" }>;

/** `recorded`: the server has all of it. Else it has what is `committed`, and said why not of the others. */
export interface DeliveryAnswer {
  readonly recorded: boolean;
  readonly committed: ReadonlySet<Upload>;
  readonly refusals: readonly Refusal[];
}

/** Bodies of one attempt that are sent at a time: each takes a connection to the nix-daemon. */
const CONCURRENT_BODIES = 2;

/**
 * Sends uploads and the result that rests on them without waiting in between: the result leaves when the last upload
 * is announced. Throws what a body throws, `SessionLostError`, and the signal's reason. Nothing is under way any more
 * when it ends.
 */
export async function sendDelivery(session: LiveSession, parts: DeliveryParts): Promise<DeliveryAnswer> {
  return await new Sending(session, parts).run();
}

class Sending {
  readonly #session: LiveSession;
  readonly #parts: DeliveryParts;
  readonly #places = new Semaphore(CONCURRENT_BODIES);
  readonly #streams = new Set<OutgoingStream>();
  readonly #ended = Promise.withResolvers<DeliveryAnswer>();
  readonly #committed = new Set<Upload>();
  readonly #refusals: Refusal[] = [];
  #stopped = false;

  constructor(session: LiveSession, parts: DeliveryParts) {
    this.#session = session;
    this.#parts = parts;
  }

  async run(): Promise<DeliveryAnswer> {
    const { uploads, signal } = this.#parts;
    signal.throwIfAborted();
    const stop = () => this.#ended.reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    const sending = uploads.map((upload) => this.#send(upload, this.#session.newId()));
    this.#report(sending).catch(this.#ended.reject);
    try {
      return await this.#ended.promise;
    } finally {
      signal.removeEventListener("abort", stop);
      this.#stopped = true;
      for (const stream of this.#streams) void stream.abort("the worker gave it up").catch(() => {});
      await Promise.all(sending.map(({ body }) => body));
      for (const { id } of sending) this.#session.forget(`upload ${id}`);
      this.#session.forget(`result ${this.#parts.attemptId}`);
    }
  }

  async #report(sending: readonly { readonly id: number; readonly announced: Promise<void> }[]): Promise<void> {
    const { attemptId, result, logSent } = this.#parts;
    await Promise.all(sending.map(({ announced }) => announced));
    await logSent;
    const uploads = sending.map(({ id }) => id);
    await this.#session.ask({ type: "job_result", attempt: attemptId, uploads, result }, `result ${attemptId}`);
    this.#end(true);
  }

  /** `body` never rejects: a failure ends the whole. */
  #send(upload: Upload, id: number): { readonly id: number; announced: Promise<void>; body: Promise<void> } {
    const announced = Promise.withResolvers<void>();
    const begin = () => this.#sendBody(upload, id, announced.resolve);
    const body = this.#places.run(() => this.#session.uploads.run(begin)).catch(this.#ended.reject);
    return { id, announced: announced.promise, body };
  }

  async #sendBody(upload: Upload, id: number, announced: () => void): Promise<void> {
    if (this.#stopped) return;
    const { target, info, signatures, compression, open, whole } = upload;
    const stream = this.#session.connection.openStream();
    this.#streams.add(stream);
    const common = { upload: id, attempt: this.#parts.attemptId, target, info, compression, stream: stream.id };
    const signed = signatures && { signatures: [...signatures] };
    this.#session
      .ask({ type: "nar_push", ...common, ...signed, with_result: true }, `upload ${id}`)
      .then((answer) => this.#answered(upload, answer))
      .catch(this.#ended.reject);
    announced();
    try {
      await (whole ? stream.sendWhole(whole) : stream.pipe(open()));
    } catch (error) {
      // The server wants no more of it and says why, or the session is lost, which ends the question.
      if (!(error instanceof StreamEndedError)) throw error;
    } finally {
      this.#streams.delete(stream);
    }
  }

  #answered(upload: Upload, answer: IncomingMessage): void {
    if (answer.type === "nar_refused") this.#refusals.push(answer);
    else this.#committed.add(upload);
    if (this.#committed.size + this.#refusals.length === this.#parts.uploads.length) this.#end(false);
  }

  #end(recorded: boolean): void {
    this.#ended.resolve({ recorded, committed: this.#committed, refusals: this.#refusals });
  }
}
