import { setMaxListeners } from "node:events";
import { concatBytes, utf8 } from "#core/lib/bytes.ts";
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
  type DerivationQuestion,
  type EvaluationMessage,
  type FetchedNar,
  type Upload,
  UploadRefusedError,
} from "../link.ts";
import { AttemptLog } from "./attempt-log.ts";
import { sendDelivery } from "./delivery.ts";
import { EvaluationMessages } from "./evaluation-messages.ts";
import { type Again, fetchNar } from "./fetch-nar.ts";
import { type LiveSession, type OutgoingMessage, SessionLostError } from "./live-session.ts";
import { sendBody } from "./send-body.ts";

type Phase = Parameters<AttemptLink["phase"]>[0];

export interface AttemptOptions {
  readonly attemptId: string;
  /** Of a build: resolves when its builder may begin. Absent: at once. */
  readonly builderPlace?: () => Promise<void>;
  readonly onBuilderEnded: () => void;
  readonly spoolPath: string;
  /** The session that is registered now, or the next one. Rejects when the signal is aborted. */
  readonly session: (signal: AbortSignal) => Promise<LiveSession>;
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** A server that could not find out, or a storage that did not answer, is asked again after this long, then later. */
const RETRY_PAUSE_MS = 2_000;
const RETRY_PAUSE_MS_MAX = 60_000;

/** A batch that met something of the moment meets it again and again only when that stays: the report is outdated. */
const BATCH_RETRIES_MAX = 2;

/** One attempt, over as many sessions as it takes. */
export class Attempt implements AttemptLink {
  readonly attemptId: string;
  readonly #options: AttemptOptions;
  readonly #abort = new AbortController();
  readonly #log: AttemptLog;
  readonly #messages: EvaluationMessages;
  #phase: OutgoingMessage | null = null;
  #commit: CommitInfo | null = null;
  #waitReason = "";
  #nextSequence = 0;
  #session: LiveSession | null = null;
  #delivered = false;

  constructor(options: AttemptOptions) {
    this.attemptId = options.attemptId;
    this.#options = options;
    this.#log = new AttemptLog(options);
    this.#messages = new EvaluationMessages({
      attemptId: options.attemptId,
      nextSequence: () => this.#nextSequence++,
      send: (message) => this.#session?.send(message),
    });
    // Each question that waits listens.
    setMaxListeners(0, this.#abort.signal);
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The lease is gone, or the worker stops: everything that waits ends with `AttemptEndedError`. */
  end(reason: string): void {
    this.#abort.abort(new AttemptEndedError(reason));
  }

  /**
   * A session begins in which the server knows this attempt: what may have been lost with the last one is sent again.
   */
  attach(session: LiveSession, logBytes: number): void {
    this.#session = session;
    if (this.#phase) session.send(this.#phase);
    for (const message of this.#messages.kept) session.send(message);
    this.#log.send(session, logBytes);
  }

  async close(): Promise<void> {
    await this.#log.close();
  }

  phase(phase: Phase, commit?: CommitInfo): void {
    // With every later phase too: the message that had it first may have been lost with its session.
    this.#commit = commit ?? this.#commit;
    this.#phase = { type: "job_update", attempt: this.attemptId, phase, ...(this.#commit && { commit: this.#commit }) };
    this.#session?.send(this.#phase);
  }

  async builderPlace(): Promise<void> {
    await this.#unlessEnded(this.#options.builderPlace?.() ?? Promise.resolve());
  }

  builderEnded(): void {
    this.#options.onBuilderEnded();
  }

  message(message: EvaluationMessage): void {
    this.#messages.add(message);
  }

  async queryDerivations(derivations: readonly DerivationQuestion[]): Promise<boolean[]> {
    return await this.#query((query) => ({
      message: {
        type: "query_derivations",
        query,
        attempt: this.attemptId,
        derivations: derivations.map(({ drvPath, outputs, realisations }) => ({
          drv_path: drvPath,
          outputs: [...outputs],
          ...(realisations && { realisations: [...realisations] }),
        })),
      },
      read: (answer) => (answer.type === "derivation_status" ? answer.known : null),
    }));
  }

  async queryCache(paths: readonly StorePath[], hashes: readonly string[] = []): Promise<readonly PathInfoField[]> {
    return await this.#query((query) => ({
      message: { type: "cache_query", query, attempt: this.attemptId, paths: [...paths], hashes: [...hashes] },
      read: (answer) => (answer.type === "cache_status" ? answer.present : null),
    }));
  }

  async fetchNar(path: StorePath): Promise<FetchedNar> {
    const { attemptId, signal } = this;
    return await fetchNar({ attemptId, signal, overSessions: (step) => this.#overSessions(step) }, path);
  }

  async pushNar({ target, info, signatures, compression, open }: Upload): Promise<void> {
    const signed = signatures && { signatures: [...signatures] };
    await this.#overSessions(async (session, again) => {
      const upload = session.newId();
      const { answer, failure } = await sendBody(session, this.signal, (stream) => {
        const question = { upload, attempt: this.attemptId, target, info, ...signed, compression, stream: stream.id };
        const answered = session.ask({ type: "nar_push", ...question }, `upload ${upload}`);
        return { answered, sending: () => stream.pipe(open()) };
      });
      if (answer.type === "nar_committed") return;
      // A body that failed here says more than the server, which saw only that it was given up.
      if (failure !== null && !(failure instanceof StreamEndedError)) throw failure;
      if (answer.type !== "nar_refused") return await again(`it answers ${answer.type}`);
      if (!answer.retry) throw new UploadRefusedError(answer.message);
      await again(`the upload of ${info.path}: ${answer.message}`);
    });
  }

  async deliver(uploads: readonly Upload[], result: BuildResult): Promise<void> {
    const open = new Set(uploads);
    await this.#overSessions(async (session, again) => {
      this.#log.end();
      const { attemptId, signal } = this;
      const parts = { attemptId, uploads: [...open], result, logSent: this.#log.sent, signal };
      try {
        const { recorded, committed, refusals } = await sendDelivery(session, parts);
        this.#delivered = recorded;
        if (recorded) return;
        for (const upload of committed) open.delete(upload);
        this.#continueLog(session);
        const refusal = refusals.find(({ retry }) => !retry) ?? refusals[0];
        if (refusal && !refusal.retry) throw new UploadRefusedError(refusal.message);
        await again(refusal ? `an upload: ${refusal.message}` : "the result was not taken with its uploads");
      } catch (error) {
        if (!(error instanceof SessionLostError)) this.#continueLog(session);
        throw error;
      }
    });
  }

  async sendBatch({ nodes, entryPoints }: Batch): Promise<void> {
    const sequence = this.#nextSequence++;
    const [only] = nodes;
    // One derivation alone may be large.
    const content = only && nodes.length === 1 ? only.aterm : concatBytes(nodes.map(({ aterm }) => aterm));
    const size = content.length;
    const listed = {
      nodes: nodes.map(({ drvPath, aterm, pruned, realisationHash }) => ({
        ...{ drv_path: drvPath, size: aterm.length, pruned },
        ...(realisationHash !== undefined && { realisation_hash: realisationHash }),
      })),
      entry_points: entryPoints.map(({ attribute, drvPath }) => ({ attribute: [...attribute], drv_path: drvPath })),
    };
    const common = { type: "eval_batch", attempt: this.attemptId, sequence, ...listed } as const;
    let triesLeft = BATCH_RETRIES_MAX;
    await this.#overSessions(async (session, again) => {
      const { answer } = await sendBody(session, this.signal, (stream) => {
        const question: OutgoingMessage = { ...common, content: { stream: stream.id, size } };
        const answered = session.ask(question, `batch ${this.attemptId} ${sequence}`);
        return { answered, sending: () => stream.sendWhole(content) };
      });
      if (answer.type !== "eval_batch_ack") return await again(`it answers ${answer.type}`);
      if (answer.error === null) return;
      if (answer.retry && triesLeft-- > 0) await again(answer.error);
      throw new BatchRefusedError(answer.error, { isOutdated: answer.retry ?? false });
    });
  }

  log(bytes: Uint8Array): void {
    this.#log.append(bytes);
  }

  async finish(result: BuildResult | EvaluationResult): Promise<void> {
    if (this.#delivered) return;
    this.#log.end();
    this.#messages.tellDropped();
    await this.#overSessions(async (session) => {
      await this.#log.sent;
      const key = `result ${this.attemptId}`;
      await session.ask({ type: "job_result", attempt: this.attemptId, result }, key);
    });
  }

  /** The log was ended with a result that did not count. */
  #continueLog(session: LiveSession): void {
    if (!this.#delivered) this.#log.goOn(session);
  }

  async #query<T>(
    question: (query: number) => {
      readonly message: OutgoingMessage;
      readonly read: (answer: Awaited<ReturnType<LiveSession["ask"]>>) => T | null;
    },
  ): Promise<T> {
    return await this.#overSessions(async (session, again) => {
      const query = session.newId();
      const { message, read } = question(query);
      const answer = await session.ask(message, `query ${query}`);
      return (
        read(answer) ?? (await again(answer.type === "query_error" ? answer.message : `it answers ${answer.type}`))
      );
    });
  }

  /** Runs the step on the session of now; when that is lost, again on the next one. */
  async #overSessions<T>(step: (session: LiveSession, again: Again) => Promise<T>): Promise<T> {
    let pauseMs = RETRY_PAUSE_MS;
    const again: Again = async (reason) => {
      this.#noteWaiting(reason);
      await this.#options.pause(pauseMs, this.signal);
      pauseMs = Math.min(2 * pauseMs, RETRY_PAUSE_MS_MAX);
      throw new SessionLostError("the server could not answer; asked again");
    };
    for (;;) {
      const session = await this.#options.session(this.signal);
      try {
        return await this.#unlessEnded(step(session, again));
      } catch (error) {
        if (!(error instanceof SessionLostError)) throw error;
      }
    }
  }

  /** Nothing waits without saying why, and says it once. */
  #noteWaiting(reason: string): void {
    if (reason === this.#waitReason) return;
    this.#waitReason = reason;
    this.log(utf8(`[gradient: waiting for the server, which is asked again: ${reason}]\n`));
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
