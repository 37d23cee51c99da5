import type { StorePath } from "#core/nix/store-path.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import { StreamEndedError } from "#core/protocol/outgoing-stream.ts";
import type { BuildResult, EvaluationResult } from "#core/protocol/worker-messages.ts";
import {
  AttemptEndedError,
  type AttemptLink,
  type Batch,
  BatchRefusedError,
  type CommitInfo,
  type EvaluationMessage,
  type FetchedNar,
  PathUnavailableError,
  type Upload,
  UploadRefusedError,
} from "../link.ts";
import { type LiveSession, type OutgoingMessage, SessionLostError } from "./live-session.ts";
import { LogSpool } from "./log-spool.ts";

type Phase = Parameters<AttemptLink["phase"]>[0];

export interface AttemptOptions {
  readonly attemptId: string;
  readonly spoolPath: string;
  /** The session that is registered now, or the next one. Rejects when the signal is aborted. */
  readonly session: (signal: AbortSignal) => Promise<LiveSession>;
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** A server that could not find out, or a storage that did not answer, is asked again after this long. */
const RETRY_PAUSE_MS = 2_000;
/** Messages of one evaluation that are kept until it ends, to be sent again after a session was lost. */
const MESSAGES_MAX = 2_000;

/** One attempt, over as many sessions as it takes. */
export class Attempt implements AttemptLink {
  readonly attemptId: string;
  readonly #options: AttemptOptions;
  readonly #abort = new AbortController();
  readonly #spool: LogSpool;
  readonly #messages: OutgoingMessage[] = [];
  #phase: OutgoingMessage | null = null;
  #nextSequence = 0;
  #session: LiveSession | null = null;
  #logSent: Promise<void> = Promise.resolve();

  constructor(options: AttemptOptions) {
    this.attemptId = options.attemptId;
    this.#options = options;
    this.#spool = new LogSpool(options.spoolPath);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The lease is gone, or the worker stops: everything that waits ends with `AttemptEndedError`. */
  end(reason: string): void {
    this.#abort.abort(new AttemptEndedError(reason));
  }

  /** A session begins in which the server knows this attempt: what may have been lost with the last one is sent again. */
  attach(session: LiveSession, logBytes: number): void {
    this.#session = session;
    if (this.#phase) session.send(this.#phase);
    for (const message of this.#messages) session.send(message);
    this.#logSent = this.#sendLog(session, logBytes);
  }

  async close(): Promise<void> {
    await this.#spool.close();
  }

  phase(phase: Phase, commit?: CommitInfo): void {
    this.#phase = { type: "job_update", attempt: this.attemptId, phase, ...(commit ? { commit } : {}) };
    this.#session?.send(this.#phase);
  }

  message({ level, text, source, attribute }: EvaluationMessage): void {
    if (this.#messages.length >= MESSAGES_MAX) return;
    const message: OutgoingMessage = {
      type: "eval_message",
      attempt: this.attemptId,
      sequence: this.#nextSequence++,
      level,
      message: text.slice(0, 65_536),
      source,
      attribute: attribute === null ? null : [...attribute],
    };
    this.#messages.push(message);
    this.#session?.send(message);
  }

  async queryDerivations(
    derivations: readonly { readonly drvPath: StorePath; readonly outputs: readonly StorePath[] }[],
  ): Promise<boolean[]> {
    return await this.#query((query) => ({
      message: {
        type: "query_derivations",
        query,
        attempt: this.attemptId,
        derivations: derivations.map(({ drvPath, outputs }) => ({ drv_path: drvPath, outputs: [...outputs] })),
      },
      read: (answer) => (answer.type === "derivation_status" ? answer.known : null),
    }));
  }

  async queryCache(paths: readonly StorePath[]): Promise<readonly PathInfoField[]> {
    return await this.#query((query) => ({
      message: { type: "cache_query", query, attempt: this.attemptId, paths: [...paths] },
      read: (answer) => (answer.type === "cache_status" ? answer.present : null),
    }));
  }

  async fetchNar(path: StorePath): Promise<FetchedNar> {
    return await this.#overSessions(async (session) => {
      const request = session.newId();
      const question: OutgoingMessage = { type: "nar_request", request, attempt: this.attemptId, path };
      const { answer, body } = await session.askReading(question, `request ${request}`, (message) => ({
        answer: message,
        body: message.type === "nar_offer" ? session.connection.acceptStream(message.stream) : null,
      }));
      if (answer.type === "nar_offer" && body) {
        return { info: answer.info, compression: answer.compression, fileSize: answer.file_size, body };
      }
      if (answer.type === "nar_unavailable" && !answer.retry) throw new PathUnavailableError(path, answer.reason);
      return await this.#again();
    });
  }

  async pushNar({ target, info, compression, open }: Upload): Promise<void> {
    await this.#overSessions(async (session) => {
      const upload = session.newId();
      const stream = session.connection.openStream();
      const question = { upload, attempt: this.attemptId, target, info, compression, stream: stream.id };
      const answered = session.ask({ type: "nar_push", ...question }, `upload ${upload}`);
      const [piped, answer] = await Promise.allSettled([stream.pipe(open()), answered]);
      if (answer.status === "rejected") throw answer.reason;
      if (answer.value.type === "nar_committed") return;
      // A body that failed here says more than the server, which saw only that it was given up.
      if (piped.status === "rejected" && !(piped.reason instanceof StreamEndedError)) throw piped.reason;
      if (answer.value.type === "nar_refused" && !answer.value.retry)
        throw new UploadRefusedError(answer.value.message);
      await this.#again();
    });
  }

  async sendBatch({ nodes, entryPoints }: Batch): Promise<void> {
    const sequence = this.#nextSequence++;
    await this.#overSessions(async (session) => {
      const stream = session.connection.openStream();
      const question: OutgoingMessage = {
        type: "eval_batch",
        attempt: this.attemptId,
        sequence,
        nodes: nodes.map(({ drvPath, aterm, pruned }) => ({ drv_path: drvPath, size: aterm.length, pruned })),
        entry_points: entryPoints.map(({ attribute, drvPath }) => ({ attribute: [...attribute], drv_path: drvPath })),
        content: { stream: stream.id, size: nodes.reduce((sum, { aterm }) => sum + aterm.length, 0) },
      };
      const answered = session.ask(question, `batch ${this.attemptId} ${sequence}`);
      const sending = (async () => {
        for (const { aterm } of nodes) await stream.write(aterm);
        await stream.end();
      })();
      const [, answer] = await Promise.allSettled([sending, answered]);
      if (answer.status === "rejected") throw answer.reason;
      if (answer.value.type !== "eval_batch_ack") return;
      if (answer.value.error !== null) throw new BatchRefusedError(answer.value.error);
    });
  }

  log(bytes: Uint8Array): void {
    this.#spool.append(bytes);
  }

  async finish(result: BuildResult | EvaluationResult): Promise<void> {
    this.#spool.end();
    await this.#overSessions(async (session) => {
      await this.#logSent;
      const key = `result ${this.attemptId}`;
      await session.ask({ type: "job_result", attempt: this.attemptId, result }, key);
    });
  }

  async #sendLog(session: LiveSession, from: number): Promise<void> {
    try {
      const first = await this.#spool.read(from);
      if (first === null || session.lost) return;
      const stream = session.connection.openStream();
      session.send({ type: "log_open", attempt: this.attemptId, offset: from, stream: stream.id });
      let offset = from;
      for (let bytes: Uint8Array | null = first; bytes !== null; bytes = await this.#spool.read(offset)) {
        await stream.write(bytes);
        offset += bytes.length;
      }
      await stream.end();
    } catch {
      // The session ended, or the server wants no more of the log, or the spool's disk is full: the build goes on.
    }
  }

  async #query<T>(
    question: (query: number) => {
      readonly message: OutgoingMessage;
      readonly read: (answer: Awaited<ReturnType<LiveSession["ask"]>>) => T | null;
    },
  ): Promise<T> {
    return await this.#overSessions(async (session) => {
      const query = session.newId();
      const { message, read } = question(query);
      const value = read(await session.ask(message, `query ${query}`));
      return value ?? (await this.#again());
    });
  }

  /** Runs the step on the session of now; when that is lost, again on the next one. */
  async #overSessions<T>(step: (session: LiveSession) => Promise<T>): Promise<T> {
    for (;;) {
      const session = await this.#options.session(this.signal);
      try {
        return await this.#unlessEnded(step(session));
      } catch (error) {
        if (!(error instanceof SessionLostError)) throw error;
      }
    }
  }

  async #again(): Promise<never> {
    await this.#options.pause(RETRY_PAUSE_MS, this.signal);
    throw new SessionLostError("the server could not answer; asked again");
  }

  async #unlessEnded<T>(work: Promise<T>): Promise<T> {
    this.signal.throwIfAborted();
    let stop = () => {};
    const ended = new Promise<never>((_, reject) => {
      stop = () => reject(this.signal.reason);
      this.signal.addEventListener("abort", stop, { once: true });
    });
    try {
      return await Promise.race([work, ended]);
    } finally {
      this.signal.removeEventListener("abort", stop);
    }
  }
}
