import type { Clock } from "../lib/clock.ts";
import type { ByteStream } from "../lib/streams.ts";
import type { NarAbsent, NarReturn, NarWanted } from "./nar-return-messages.ts";

export type WantAnswer =
  | { readonly compression: NarReturn["compression"]; readonly body: ByteStream }
  /** `silent`: it said nothing at all. */
  | { readonly absent: string; readonly silent?: boolean };

/** What a worker is asked through. */
interface WantsConnection {
  readonly closed: boolean;
  send(message: NarWanted): void;
  acceptStream(id: number): ByteStream;
  refuseStream(id: number): void;
}

/** The sender's side of `nar_wanted`: what one worker was asked for and has not answered yet. */
export class NarWants {
  readonly #connection: WantsConnection;
  readonly #clock: Clock;
  readonly #waiting = new Map<number, (answer: WantAnswer) => void>();
  #nextWant = 1;

  constructor(connection: WantsConnection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
  }

  /** Asks for one NAR. The caller reads the body of the answer to its end, or ends its iteration. Never rejects. */
  ask(wanted: Omit<NarWanted, "type" | "want">, timeoutMs: number): Promise<WantAnswer> {
    if (this.#connection.closed) return Promise.resolve({ absent: "the worker is gone" });
    const want = this.#nextWant++;
    return new Promise((resolve) => {
      const late = { absent: "it did not answer in time", silent: true };
      const cancel = this.#clock.schedule(timeoutMs, () => this.#answer(want, late));
      this.#waiting.set(want, (answer) => {
        cancel();
        resolve(answer);
      });
      this.#connection.send({ type: "nar_wanted", want, ...wanted });
    });
  }

  /** To be called while the message is handled. What nobody waits for is refused without harm. */
  receive(message: NarReturn | NarAbsent): void {
    if (message.type === "nar_absent") return this.#answer(message.want, { absent: message.reason });
    const { want, compression, stream } = message;
    if (!this.#waiting.has(want)) return this.#connection.refuseStream(stream);
    this.#answer(want, { compression, body: this.#connection.acceptStream(stream) });
  }

  /** The session is over. */
  close(): void {
    for (const want of [...this.#waiting.keys()]) this.#answer(want, { absent: "the worker is gone" });
  }

  #answer(want: number, answer: WantAnswer): void {
    const resolve = this.#waiting.get(want);
    this.#waiting.delete(want);
    resolve?.(answer);
  }
}
