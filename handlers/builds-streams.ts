import { DomainError } from "#core/errors.ts";
import { utf8 } from "#core/lib/bytes.ts";

/** How many answers that stay open one server gives at a time: each looks into the database now and then. */
const OPEN_MAX = 256;

/** Where answers that stay open take their places: those of a server, or what one of its clients may have of them. */
export interface Places {
  /** The returned function gives the place back, once. Throws when all are taken. */
  take(): () => void;
}

/** Places for answers that stay open. */
export class StreamPlaces implements Places {
  readonly #max: number;
  #taken = 0;
  readonly #takenBy = new Map<string, number>();

  constructor(max: number = OPEN_MAX) {
    this.#max = max;
  }

  /** Throws `service_unavailable` when all are taken. */
  take(): () => void {
    if (this.#taken >= this.#max) {
      throw new DomainError("service_unavailable", `This server has ${this.#max} such answers open: try again later`);
    }
    this.#taken++;
    let held = true;
    return () => {
      if (held) this.#taken--;
      held = false;
    };
  }

  /** The places as one client has them: at most `max`. Throws `too_many_requests` beyond, so that others find some. */
  of(client: string, max: number): Places {
    return {
      take: () => {
        const count = this.#takenBy.get(client) ?? 0;
        if (count >= max) {
          throw new DomainError("too_many_requests", `You have ${max} such answers open: close one of them first`);
        }
        const leave = this.take();
        this.#takenBy.set(client, count + 1);
        let held = true;
        return () => {
          if (held) this.#leave(client);
          held = false;
          leave();
        };
      },
    };
  }

  #leave(client: string): void {
    const count = (this.#takenBy.get(client) ?? 1) - 1;
    if (count > 0) this.#takenBy.set(client, count);
    else this.#takenBy.delete(client);
  }
}

/**
 * A body that stays open: each item is rendered and sent when it comes. When the client goes away the signal is aborted
 * and the items end. Nothing is made ahead of what the client reads.
 */
export async function openStream<T>(
  places: Places,
  items: (signal: AbortSignal) => Promise<AsyncIterable<T>>,
  render: (item: T) => string,
): Promise<ReadableStream<Uint8Array>> {
  const leave = places.take();
  const gone = new AbortController();
  try {
    const iterator = (await items(gone.signal))[Symbol.asyncIterator]();
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const { done, value } = await iterator.next().catch((error: unknown) => {
            leave();
            throw error;
          });
          if (!done) return controller.enqueue(utf8(render(value)));
          leave();
          controller.close();
        },
        async cancel() {
          gone.abort();
          leave();
          await iterator.return?.();
        },
      },
      { highWaterMark: 0 },
    );
  } catch (error) {
    leave();
    throw error;
  }
}

/** For answers that stay open: no proxy collects them before it passes them on. */
export const UNBUFFERED: Readonly<Record<string, string>> = {
  "cache-control": "no-cache, no-store",
  "x-accel-buffering": "no",
};

/** What a builder wrote: no browser may run it. */
export const USER_MADE: Readonly<Record<string, string>> = {
  "content-security-policy": "sandbox",
  "x-content-type-options": "nosniff",
};
export const JSON_LINES: Readonly<Record<string, string>> = {
  "content-type": "application/x-ndjson; charset=utf-8",
  ...USER_MADE,
};
