import { DomainError } from "#core/errors.ts";
import type { ByteStream } from "#core/lib/streams.ts";

/** What one upload holds of its session's budget. */
export interface BudgetShare {
  /** The body; ends with a `DomainError` where it goes beyond what the session may hold. */
  through(body: ByteStream): ByteStream;
  /** The upload is stored and offered, or was given up. Calling it twice does nothing. */
  release(): void;
}

/** Bytes of one session's uploads that have arrived and are not offered yet: the option maxNarBufferBytes. */
export class UploadBudget {
  readonly #bytesMax: number;
  #held = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get heldBytes(): number {
    return this.#held;
  }

  share(): BudgetShare {
    let own = 0;
    let released = false;
    const take = (bytes: number) => {
      own += bytes;
      this.#held += bytes;
      if (this.#held <= this.#bytesMax) return;
      const limit = `maxNarBufferBytes, ${this.#bytesMax}`;
      if (own > this.#bytesMax) throw new DomainError("payload_too_large", `the upload is larger than ${limit}`);
      // Others have to end first.
      throw new DomainError("service_unavailable", `the uploads of this session together are larger than ${limit}`);
    };
    async function* metered(body: ByteStream): AsyncGenerator<Uint8Array> {
      for await (const bytes of body) {
        take(bytes.length);
        yield bytes;
      }
    }
    return {
      through: metered,
      release: () => {
        if (!released) this.#held -= own;
        released = true;
      },
    };
  }
}
