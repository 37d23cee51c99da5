import type { Semaphore } from "#core/lib/semaphore.ts";
import type { ByteStream } from "#core/lib/streams.ts";
import type { WorkerConnection, WorkMessage } from "#core/protocol/session-host.ts";
import {
  type IncomingMessage,
  type LiveSession,
  type OutgoingMessage,
  SessionLostError,
} from "../session/live-session.ts";
import { passLogOn, passOn } from "./pass-on.ts";
import { ATTEMPTS_MAX, type RelayedAttempt, type RelayedAttempts } from "./relayed-attempts.ts";

/** What a worker sends about one attempt. */
export type AttemptMessage = Extract<WorkMessage, { readonly attempt: string }>;
type Of<T extends AttemptMessage["type"]> = Extract<AttemptMessage, { type: T }>;

export interface RelayedMessagesOptions {
  readonly workerId: string;
  readonly connection: WorkerConnection;
  /** The server's session. When it ends, this worker's does. */
  readonly upstream: LiveSession;
  readonly attempts: RelayedAttempts;
  readonly gates: {
    /** Of this worker alone. */
    readonly questions: Semaphore;
    readonly fetches: Semaphore;
    readonly ownBodies: Semaphore;
    /** Of all workers. */
    readonly bodies: Semaphore;
    readonly logs: Semaphore;
  };
}

const GONE = "the lease has ended";

/**
 * Passes on what one worker says and asks of its attempts, under the numbers of the server's session, and the answers
 * under the worker's own. What concerns an attempt that is not the worker's is answered as a server would.
 */
export class RelayedMessages {
  readonly #options: RelayedMessagesOptions;
  readonly #closed = Promise.withResolvers<null>();

  constructor(options: RelayedMessagesOptions) {
    this.#options = options;
  }

  /** The worker's session is over. */
  close(): void {
    this.#closed.resolve(null);
  }

  /** A promise resolves when the message is answered, or has gone to the server. */
  receive(message: AttemptMessage): void | Promise<void> {
    switch (message.type) {
      case "assign_job_response":
      case "job_update":
      case "eval_message":
        if (this.#own(message.attempt)) this.#options.upstream.send(message);
        return;
      case "query_derivations":
      case "cache_query":
        return this.#query(message);
      case "nar_request":
        return this.#fetch(message);
      case "nar_push":
        return this.#push(message);
      case "eval_batch":
        return this.#batch(message);
      case "log_open":
        return this.#log(message);
      case "job_result":
        return this.#result(message);
    }
  }

  /** Another worker's attempts are as good as none. */
  #own(attemptId: string): RelayedAttempt | null {
    const attempt = this.#options.attempts.get(attemptId);
    return attempt?.workerId === this.#options.workerId ? attempt : null;
  }

  async #query(message: Of<"query_derivations"> | Of<"cache_query">): Promise<void> {
    const { upstream, gates } = this.#options;
    const { query } = message;
    if (!this.#own(message.attempt)) return this.#send({ type: "query_error", query, message: GONE });
    await gates.questions.run(async () => {
      const id = upstream.newId();
      const answer = await this.#ask({ ...message, query: id }, `query ${id}`);
      const { type } = answer ?? {};
      if (type === "derivation_status" || type === "cache_status" || type === "query_error") {
        this.#send({ ...answer, query } as IncomingMessage);
      }
    });
  }

  async #fetch(message: Of<"nar_request">): Promise<void> {
    const { upstream, connection, gates } = this.#options;
    const { request } = message;
    if (!this.#own(message.attempt)) {
      return this.#send({ type: "nar_unavailable", request, reason: GONE, retry: false });
    }
    await gates.fetches.run(async () => {
      if (connection.closed) return;
      const id = upstream.newId();
      const asked = upstream.askReading({ ...message, request: id }, `request ${id}`, (answer) => ({
        answer,
        body: answer.type === "nar_offer" ? upstream.connection.acceptStream(answer.stream) : null,
      }));
      const got = await asked.catch(orLost);
      if (got?.answer.type === "nar_unavailable") this.#send({ ...got.answer, request });
      if (got?.answer.type !== "nar_offer" || !got.body) return;
      const stream = connection.openStream();
      this.#send({ ...got.answer, request, stream: stream.id });
      await passOn(got.body, stream);
    });
  }

  #push(message: Of<"nar_push">): Promise<void> {
    const { upstream, connection } = this.#options;
    const attempt = this.#own(message.attempt);
    if (!attempt) {
      connection.refuseStream(message.stream);
      this.#send({ type: "nar_refused", upload: message.upload, message: GONE, retry: false });
      return Promise.resolve();
    }
    const id = upstream.newId();
    const announced = Promise.withResolvers<void>();
    if (message.with_result) {
      if (attempt.uploads.size >= ATTEMPTS_MAX) throw new Error("an attempt has too many uploads");
      attempt.uploads.set(message.upload, { upload: id, announced: announced.promise });
    }
    const { stream, upload, ...rest } = message;
    return this.#sendBody(connection.acceptStream(stream), (streamId) => {
      void this.#ask({ ...rest, upload: id, stream: streamId }, `upload ${id}`).then((answer) => {
        if (answer?.type === "nar_committed" || answer?.type === "nar_refused") this.#send({ ...answer, upload });
      });
      announced.resolve();
    }).finally(announced.resolve);
  }

  #batch(message: Of<"eval_batch">): Promise<void> {
    const { connection } = this.#options;
    const { attempt, sequence, content } = message;
    if (!this.#own(attempt)) {
      connection.refuseStream(content.stream);
      this.#send({ type: "eval_batch_ack", attempt, sequence, error: GONE });
      return Promise.resolve();
    }
    return this.#sendBody(connection.acceptStream(content.stream), (stream) => {
      const asked = { ...message, content: { ...content, stream } };
      void this.#ask(asked, `batch ${attempt} ${sequence}`).then((answer) => answer && this.#send(answer));
    });
  }

  /** Announces a body to the server when it is its turn, and passes it on. */
  async #sendBody(body: ByteStream, announce: (stream: number) => void): Promise<void> {
    const { upstream, connection, gates } = this.#options;
    await gates.ownBodies.run(() =>
      gates.bodies.run(async () => {
        if (connection.closed || upstream.lost) return;
        const stream = upstream.connection.openStream();
        announce(stream.id);
        await passOn(body, stream);
      }),
    );
  }

  #log(message: Of<"log_open">): Promise<void> {
    const { connection } = this.#options;
    const attempt = this.#own(message.attempt);
    if (!attempt) {
      connection.refuseStream(message.stream);
      return Promise.resolve();
    }
    const body = connection.acceptStream(message.stream);
    attempt.logSent = attempt.logSent.then(() => this.#passLog(attempt, message.offset, body));
    return attempt.logSent;
  }

  async #passLog(attempt: RelayedAttempt, offset: number, body: ByteStream): Promise<void> {
    const { upstream, gates } = this.#options;
    const place = gates.logs.acquire();
    const release = await Promise.race([place, this.#closed.promise]);
    // The worker is gone before its turn came: it sends the log again.
    if (!release) return void place.then((late) => late());
    try {
      const stream = upstream.connection.openStream();
      upstream.send({ type: "log_open", attempt: attempt.id, offset, stream: stream.id });
      let position = offset;
      await passLogOn(body, stream, (bytes) => {
        position += bytes;
        attempt.logBytes = Math.max(attempt.logBytes, position);
      });
    } finally {
      release();
    }
  }

  /** The log has left before, and the server knows of each upload that the result names. */
  async #result(message: Of<"job_result">): Promise<void> {
    const { attempts, upstream, connection } = this.#options;
    const { attempt: id } = message;
    const attempt = this.#own(id);
    if (!attempt) return this.#send({ type: "job_result_ack", attempt: id });
    const uploads = (message.uploads ?? []).map((own) => {
      const relayed = attempt.uploads.get(own);
      if (!relayed) throw new Error("a result names an upload that was not announced with it");
      return relayed;
    });
    await Promise.all([attempt.logSent, ...uploads.map(({ announced }) => announced)]);
    if (connection.closed) return;
    const named = message.uploads && { uploads: uploads.map(({ upload }) => upload) };
    const answer = await this.#ask({ ...message, ...named }, `result ${id}`);
    if (answer?.type !== "job_result_ack") return;
    for (const { upload } of attempt.uploads.values()) upstream.forget(`upload ${upload}`);
    attempts.delete(id);
    this.#send(answer);
  }

  /** Null when the server's session is over: then the worker's is, and it asks again on the next. */
  async #ask(message: OutgoingMessage, key: string): Promise<IncomingMessage | null> {
    return await this.#options.upstream.ask(message, key).catch((error: unknown) => {
      // The same message with longer numbers may be too long. The worker's session ends, and says why.
      if (!(error instanceof SessionLostError)) this.#options.connection.close(1009, (error as Error).message);
      return null;
    });
  }

  #send(message: IncomingMessage): void {
    this.#options.connection.send(message);
  }
}

function orLost(error: unknown): null {
  if (error instanceof SessionLostError) return null;
  throw error;
}
