import type { EvaluationMessage } from "../link.ts";
import { type OutgoingMessage, reasonNotToSend } from "./live-session.ts";

/** As many as wait for a socket together without the server taking the worker for stalled (`CONTROL_QUEUE_MAX`). */
const MESSAGES_MAX = 2_000;
/** All of them together: a quarter of what a server lets wait of one worker. */
const TEXT_LENGTH_TOTAL_MAX = 16 * 2 ** 20;
const TEXT_LENGTH_MAX = 65_536;
const TEXT_LENGTH_SHORT = 8_000;
const ATTRIBUTE_SHOWN_MAX = 200;

export interface EvaluationMessagesOptions {
  readonly attemptId: string;
  readonly nextSequence: () => number;
  readonly send: (message: OutgoingMessage) => void;
}

/** What an evaluation says, kept until it ends: a session that is lost may have taken some of it along. */
export class EvaluationMessages {
  readonly #options: EvaluationMessagesOptions;
  readonly #kept: OutgoingMessage[] = [];
  #keptLength = 0;
  #dropped = 0;

  constructor(options: EvaluationMessagesOptions) {
    this.#options = options;
  }

  /** To be sent at the beginning of a session; the server records each once. */
  get kept(): readonly OutgoingMessage[] {
    return this.#kept;
  }

  add(message: EvaluationMessage): void {
    const length = Math.min(message.text.length, TEXT_LENGTH_MAX);
    if (this.#kept.length >= MESSAGES_MAX || this.#keptLength + length > TEXT_LENGTH_TOTAL_MAX) {
      this.#dropped++;
      return;
    }
    this.#keptLength += length;
    this.#send(message);
  }

  /** To be called at the end: the reader learns that this is not all. */
  tellDropped(): void {
    if (this.#dropped === 0) return;
    const text =
      `${this.#dropped} further errors and warnings are not shown, there are too many: ` +
      "exclude what is not meant to build from the project's attribute patterns";
    this.#send({ level: "error", text, source: "worker", attribute: null });
    this.#dropped = 0;
  }

  #send({ level, text, source, attribute }: EvaluationMessage): void {
    const { attemptId, nextSequence, send } = this.#options;
    const common = { type: "eval_message", attempt: attemptId, sequence: nextSequence(), level, source } as const;
    let message: OutgoingMessage = {
      ...common,
      message: text.slice(0, TEXT_LENGTH_MAX),
      attribute: attribute && [...attribute],
    };
    if (attribute !== null && reasonNotToSend(message) !== null) {
      // A name that is too long for a row: its beginning says which one.
      const name = attribute.join(".").slice(0, ATTRIBUTE_SHOWN_MAX);
      message = { ...common, message: `${name}…: ${text.slice(0, TEXT_LENGTH_SHORT)}`, attribute: null };
    }
    this.#kept.push(message);
    send(message);
  }
}
