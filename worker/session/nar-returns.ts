import { Semaphore } from "#core/lib/semaphore.ts";
import type { ByteStream } from "#core/lib/streams.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { NarReturn, NarWanted } from "#core/protocol/nar-return-messages.ts";
import type { LiveSession } from "./live-session.ts";

/** Sends the body of an answer; resolves when all of it has left. */
export type SendReturn = (compression: NarReturn["compression"], body: ByteStream) => Promise<void>;

export interface NarReturnsOptions {
  /**
   * Looks for the NAR where the organization works, and sends it. Resolves with null when it did, else with why not. A
   * body that is not the very NAR throws before its end.
   */
  readonly find: (wanted: NarWanted, send: SendReturn, signal: AbortSignal) => Promise<string | null>;
  readonly log: Logger;
}

/** NARs that are looked for and sent at a time: builds come first. */
const AT_ONCE = 1;
/** Questions that may wait. A server asks for one after the other. */
const WAITING_MAX = 16;
const REASON_LENGTH_MAX = 1_000;

/** Answers the server when it has lost NARs that this machine may have. */
export class NarReturns {
  readonly #options: NarReturnsOptions;
  readonly #places = new Semaphore(AT_ONCE);
  #organizations: readonly string[] = [];
  #waiting = 0;

  constructor(options: NarReturnsOptions) {
    this.#options = options;
  }

  /** These organizations let this worker in: what others ask for is not looked for. */
  authorize(organizationIds: readonly string[]): void {
    this.#organizations = organizationIds;
  }

  /** Never throws, and waits for nothing. */
  receive(session: LiveSession, wanted: NarWanted, signal: AbortSignal): void {
    const { want } = wanted;
    const absent = (reason: string) =>
      session.send({ type: "nar_absent", want, reason: reason.slice(0, REASON_LENGTH_MAX) });
    if (!this.#organizations.includes(wanted.organization))
      return absent("the organization does not let this worker in");
    if (this.#waiting >= WAITING_MAX) return absent("the worker is asked for too many at a time");
    this.#waiting++;
    this.#places
      .run(async () => {
        if (session.lost) return;
        const reason = await this.#return(session, wanted, signal);
        if (reason !== null) absent(reason);
      })
      .finally(() => this.#waiting--)
      .catch((error: unknown) => this.#options.log.warn("a lost NAR could not be looked for", { error }));
  }

  /** Null when it was sent, or begun to be: the server sees what becomes of it. */
  async #return(session: LiveSession, wanted: NarWanted, signal: AbortSignal): Promise<string | null> {
    const { find, log } = this.#options;
    const { want, path } = wanted;
    let begun = false;
    const send: SendReturn = async (compression, body) => {
      const stream = session.connection.openStream();
      begun = true;
      session.send({ type: "nar_return", want, compression, stream: stream.id });
      await stream.pipe(body);
    };
    try {
      const reason = await find(wanted, send, signal);
      if (reason === null) log.info("a NAR that the server had lost was sent back", { path });
      return reason;
    } catch (error) {
      if (!session.lost) log.warn("a NAR that the server has lost could not be sent back", { path, error });
      return begun ? null : "this worker could not read it from its store";
    }
  }
}
