import type { ByteStream } from "../lib/streams.ts";

/**
 * Requests to addresses that users and other machines name. The runtime opens no connection to an address that the
 * operator has not allowed, after a redirect neither.
 */
export interface Outbound {
  /**
   * Resolves when the headers are there, after at most 5 redirects that keep the scheme, whatever the status is.
   * Throws `OutboundError`.
   */
  get(url: string, options: OutboundOptions): Promise<OutboundAnswer>;
}

/** The same for what is sent. */
export interface FormSender {
  /**
   * Sends `form` as `application/x-www-form-urlencoded`. No redirect is followed: what is sent is for the address that
   * was named. Throws `OutboundError`.
   */
  postForm(url: string, form: string, options: OutboundOptions): Promise<OutboundAnswer>;
}

/** The same for JSON, as text. */
export interface JsonSender {
  /** No redirect is followed. Throws `OutboundError`. */
  postJson(url: string, json: string, options: OutboundOptions): Promise<OutboundAnswer>;
}

export interface OutboundOptions {
  /** Until the headers, redirects included. */
  readonly timeoutMs: number;
  /** Between two pieces of the body, while the reader waits for the next. */
  readonly idleTimeoutMs: number;
  /** A longer body ends with an `OutboundError`. */
  readonly bytesMax: number;
  readonly signal?: AbortSignal;
  /** Content codings that the caller reads, by their names in HTTP; none is the default. */
  readonly codings?: readonly string[];
  /** Sent to the origin of the address only: not to where it redirects to. */
  readonly headers?: Readonly<Record<string, string>>;
}

export interface OutboundAnswer {
  readonly status: number;
  /** What the answer says of its length; null where it does not. */
  readonly size: number | null;
  /** The body's content coding: `identity`, or one that was asked for. */
  readonly coding: string;
  /** Throws `OutboundError` when it is cut off. The caller iterates it or calls `discard`. */
  readonly body: ByteStream;
  discard(): void;
}

/**
 * - `refused`: the address is not allowed, or not one of http or https.
 * - `unreachable`: there is no such name, or no connection to it; asking again at once is in vain.
 * - `timeout`: connected, but no answer in time.
 * - `broken`: the connection broke, or what came is not HTTP.
 * - `too_large`: the body is longer than was allowed.
 * - `aborted`: by the signal.
 */
export type OutboundFailure = "refused" | "unreachable" | "timeout" | "broken" | "too_large" | "aborted";

/** The message names the host and what went wrong, for an operator. */
export class OutboundError extends Error {
  override readonly name = "OutboundError";
  readonly failure: OutboundFailure;

  constructor(failure: OutboundFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.failure = failure;
  }
}
