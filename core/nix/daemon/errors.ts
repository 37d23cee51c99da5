import { stripAnsi } from "./ansi.ts";

/** One line of context that the daemon attached to an error, outermost last. */
export type DaemonTrace = string;

/** What an error frame carries; the text as sent, with terminal colours. */
export interface DaemonErrorDetails {
  readonly level: number;
  readonly message: string;
  readonly traces: readonly DaemonTrace[];
}

/**
 * The daemon refused or failed the request. The connection may go on unless it says otherwise.
 * `message` is free of terminal control sequences; `raw` is the text as the daemon sent it.
 */
export class DaemonError extends Error {
  override readonly name = "DaemonError";
  readonly raw: string;
  readonly level: number;
  readonly traces: readonly DaemonTrace[];

  constructor(details: DaemonErrorDetails) {
    super(stripAnsi(details.message).trim());
    this.raw = details.message;
    this.level = details.level;
    this.traces = details.traces.map(stripAnsi);
  }
}

/** The daemon is not reachable or went away. The request may or may not have taken effect. */
export class DaemonConnectionError extends Error {
  override readonly name = "DaemonConnectionError";
  readonly socketPath: string;

  constructor(socketPath: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.socketPath = socketPath;
  }
}

/** The daemon said something that the protocol does not allow, or that exceeds a limit. The connection is lost. */
export class DaemonProtocolError extends Error {
  override readonly name = "DaemonProtocolError";
}
