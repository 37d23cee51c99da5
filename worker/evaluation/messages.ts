import { type AttributePath, attributeKey } from "./attribute-order.ts";

export interface EvaluationMessage {
  readonly level: "error" | "warning" | "notice";
  readonly text: string;
  readonly source: "fetch" | "evaluation";
  /** Null when it concerns no single attribute. */
  readonly attribute: AttributePath | null;
}

const TEXT_LENGTH_MAX = 8_000;
const REMARKS_LENGTH_MAX = 1024 * 1024;
const ERRORS_LENGTH_MAX = 8 * 1024 * 1024;
const SHORT_LENGTH = 300;

/**
 * Bounds what an evaluation says. Warnings and notices repeat in every evaluator: each is passed once, up to a limit.
 * An error is always passed, though shortened when there was a lot before it.
 */
export class MessageFilter {
  readonly #pass: (message: EvaluationMessage) => void;
  readonly #remarksMax: number;
  readonly #seen = new Set<string>();
  #remarksLength = 0;
  #errorsLength = 0;
  #isFull = false;

  /** `remarksMax`: warnings and notices that are passed. */
  constructor(pass: (message: EvaluationMessage) => void, remarksMax: number) {
    this.#pass = pass;
    this.#remarksMax = remarksMax;
  }

  add(message: EvaluationMessage): void {
    if (message.level === "error") this.#addError(message);
    else this.#addRemark(message);
  }

  #addError(message: EvaluationMessage): void {
    const limit = this.#errorsLength > ERRORS_LENGTH_MAX ? SHORT_LENGTH : TEXT_LENGTH_MAX;
    const text = shorten(message.text, limit);
    this.#errorsLength += text.length;
    this.#pass({ ...message, text });
  }

  #addRemark(message: EvaluationMessage): void {
    if (this.#isFull) return;
    const text = shorten(message.text, TEXT_LENGTH_MAX);
    // The same words in another attribute's evaluation are the same remark: shared code is evaluated in each process.
    const key = attributeKey([message.level, text]);
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.#remarksLength += text.length;
    this.#isFull = this.#seen.size > this.#remarksMax || this.#remarksLength > REMARKS_LENGTH_MAX;
    if (!this.#isFull) this.#pass({ ...message, text });
    else
      this.#pass({ ...message, text: "further warnings and traces were dropped: there are too many", attribute: null });
  }
}

function shorten(text: string, limit: number): string {
  return text.length > limit ? `${text.slice(0, limit)}…` : text;
}
