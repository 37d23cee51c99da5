import { Semaphore } from "#core/lib/semaphore.ts";
import { StreamEndedError } from "#core/protocol/outgoing-stream.ts";
import type { WorkerConnection, WorkMessage } from "#core/protocol/session-host.ts";
import { writeLog } from "#core/services/build-log-write.ts";
import { advanceEvaluation } from "#core/services/transitions/evaluation-progress.ts";
import { attemptStartsOf } from "./attempt-starts.ts";
import type { HubDeps } from "./deps.ts";
import { EvaluationLimits } from "./evaluation-limits.ts";
import { receiveBatch, receiveEvaluationMessage } from "./evaluation-reports.ts";
import { type LeasedAttempt, refuseUpload } from "./leased-attempts.ts";
import type { LogWriters } from "./log-writers.ts";
import type { NarTransfers } from "./nar-transfers.ts";
import type { NarUploads } from "./nar-uploads.ts";
import { answerCacheQuery, answerDerivationQuery } from "./queries.ts";

/** What a worker sends while it works on an attempt. */
export type AttemptMessage = Extract<
  WorkMessage,
  {
    type:
      | "job_update"
      | "eval_message"
      | "eval_batch"
      | "query_derivations"
      | "cache_query"
      | "nar_request"
      | "nar_push"
      | "log_open";
  }
>;
type Of<T extends AttemptMessage["type"]> = Extract<AttemptMessage, { type: T }>;

export interface AttemptMessagesOptions {
  readonly connection: WorkerConnection;
  readonly transfers: NarTransfers;
  readonly uploads: NarUploads;
  readonly logs: LogWriters;
  /** Undefined when the worker does not hold the attempt, or holds it no longer. */
  readonly heldBy: (attemptId: string) => LeasedAttempt | undefined;
  /** Runs the tasks of one attempt one after the other, while the worker holds it. */
  readonly inOrder: (attemptId: string, task: () => Promise<void>) => Promise<void>;
  /** What was sent is unanswered: the session ends, and the worker sends it again. */
  readonly failed: (error: unknown) => void;
}

/** Batches of one session that are read at a time, each of up to `EVAL_BATCH_BYTES_MAX`. */
const BATCHES_AT_ONCE = 2;

/** Deals with what is said about attempts: of those that the worker does not hold nothing is read or written. */
export class AttemptMessages {
  readonly #deps: HubDeps;
  readonly #options: AttemptMessagesOptions;
  readonly #batches = new Semaphore(BATCHES_AT_ONCE);
  readonly #limits: EvaluationLimits;

  constructor(deps: HubDeps, options: AttemptMessagesOptions) {
    this.#limits = new EvaluationLimits(deps);
    this.#deps = deps;
    this.#options = options;
  }

  /** Resolves when the message is dealt with, also where it failed. */
  async receive(message: AttemptMessage): Promise<void> {
    const { connection } = this.#options;
    switch (message.type) {
      case "job_update":
        return await this.#options.inOrder(message.attempt, () => this.#update(message));
      case "eval_message":
        if (!this.#limits.allowsMessage(message.sequence)) return;
        return await this.#options.inOrder(message.attempt, () => receiveEvaluationMessage(this.#deps, message));
      case "eval_batch":
        return await this.#batch(message);
      case "query_derivations":
        return await this.#answer(message, (held) => answerDerivationQuery(this.#deps, connection, held, message));
      case "cache_query":
        return await this.#answer(message, (held) => answerCacheQuery(this.#deps, connection, held, message));
      case "nar_request":
        return await this.#narRequest(message);
      case "nar_push":
        return await this.#narPush(message);
      case "log_open":
        return await this.#log(message);
    }
  }

  async #update({ attempt, phase, commit }: Of<"job_update">): Promise<void> {
    if (phase !== "building") return await advanceEvaluation(this.#deps, attempt, phase, commit);
    if (this.#options.heldBy(attempt)) attemptStartsOf(this.#deps).add(attempt);
  }

  async #batch(message: Of<"eval_batch">): Promise<void> {
    const { connection, heldBy, inOrder } = this.#options;
    const { attempt, sequence } = message;
    if (!heldBy(attempt)) {
      connection.refuseStream(message.content.stream);
      const error = "the lease of this evaluation has ended";
      return connection.send({ type: "eval_batch_ack", attempt, sequence, error });
    }
    const content = connection.acceptStream(message.content.stream);
    this.#limits.forgetAllBut((id) => heldBy(id) !== undefined);
    await inOrder(attempt, async () => {
      const refusal = await this.#limits.refuse(attempt, message.nodes.length);
      if (refusal === null) {
        return await this.#batches.run(() => receiveBatch(this.#deps, connection, message, content));
      }
      await content[Symbol.asyncIterator]().return?.();
      connection.send({ type: "eval_batch_ack", attempt, sequence, error: refusal });
    });
  }

  async #answer(
    { attempt, query }: { readonly attempt: string; readonly query: number },
    task: (held: LeasedAttempt) => Promise<void>,
  ): Promise<void> {
    const held = this.#options.heldBy(attempt);
    if (held) return await this.#started(task(held));
    this.#options.connection.send({ type: "query_error", query, message: "the lease has ended" });
  }

  async #narRequest(message: Of<"nar_request">): Promise<void> {
    const { connection, heldBy, transfers } = this.#options;
    const held = heldBy(message.attempt);
    if (held) return await this.#started(transfers.serve(message, held));
    const { request } = message;
    connection.send({ type: "nar_unavailable", request, reason: "the lease has ended", retry: false });
  }

  async #narPush(message: Of<"nar_push">): Promise<void> {
    const { connection, heldBy, uploads } = this.#options;
    const held = heldBy(message.attempt);
    const refusal = held ? refuseUpload(held, message.target, message.info) : "the lease has ended";
    if (held && refusal === null) {
      return await this.#started(uploads.receive(message, held, connection.acceptStream(message.stream)));
    }
    connection.refuseStream(message.stream);
    connection.send({ type: "nar_refused", upload: message.upload, message: refusal ?? "refused", retry: false });
  }

  async #log({ attempt, offset, stream }: Of<"log_open">): Promise<void> {
    const { connection, heldBy, logs, failed } = this.#options;
    if (!heldBy(attempt)) return connection.refuseStream(stream);
    const body = connection.acceptStream(stream);
    // What came of it before is stored first: this one joins on to it.
    const before = logs.ended(attempt);
    const writing = before
      .then(() => writeLog(this.#deps, attempt, { offset, stream: body }))
      .catch((error: unknown) => {
        // A worker that gave the log up has sent what it had of it.
        if (!(error instanceof StreamEndedError) && !connection.closed) failed(error);
      });
    logs.add(attempt, writing);
    await writing;
  }

  async #started(task: Promise<void>): Promise<void> {
    await task.catch((error: unknown) => {
      if (this.#options.connection.closed) return;
      this.#deps.log.warn("a task of a worker's session failed", { error });
    });
  }
}
