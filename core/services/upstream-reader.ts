import type { Clock } from "../lib/clock.ts";
import type { ByteStream } from "../lib/streams.ts";

export interface PassingOptions {
  readonly clock: Clock;
  /** How long the reader may take to ask for the next chunk. */
  readonly idleMs: number;
  /** Called once, however it ends. */
  onEnd(): void;
}

/** A body that lets go of what it holds when its reader asks for nothing any more, without having gone. */
export function passing(body: ByteStream, { clock, idleMs, onEnd }: PassingOptions): ByteStream {
  const iterator = body[Symbol.asyncIterator]();
  let cancel = () => {};
  let ended = false;
  const end = () => {
    cancel();
    if (!ended) onEnd();
    ended = true;
  };
  const giveUp = async () => {
    if (ended) return;
    end();
    await iterator.return?.();
  };
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        cancel();
        if (ended) throw new Error(`nothing was read for ${idleMs} ms, so the rest was given up`);
        try {
          const result = await iterator.next();
          if (result.done) end();
          else cancel = clock.schedule(idleMs, () => void giveUp().catch(() => {}));
          return result;
        } catch (error) {
          end();
          throw error;
        }
      },
      async return() {
        await giveUp();
        return { done: true, value: undefined };
      },
    }),
  };
}
