import type { Clock } from "./clock.ts";

/** Something did not happen in time. What it would have brought is for nobody. */
export class TooLateError extends Error {
  override readonly name = "TooLateError";
}

/** A body whose sender may not be silent for longer than `ms`: `TooLateError` comes in the place of the next piece. */
export async function* timely(
  clock: Clock,
  ms: number,
  what: string,
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const iterator = body[Symbol.asyncIterator]();
  let finished = false;
  try {
    for (;;) {
      const { done, value } = await inTime(clock, ms, what, iterator.next());
      if (done) break;
      yield value;
    }
    finished = true;
  } finally {
    // Not waited for: who is silent may not end either.
    if (!finished) void iterator.return?.().catch(() => {});
  }
}

/** What the promise brings, or `TooLateError` after `ms`; `what` begins its message. The work itself is not stopped. */
export async function inTime<T>(clock: Clock, ms: number, what: string, promise: Promise<T>): Promise<T> {
  let cancel = () => {};
  const late = new Promise<never>((_, reject) => {
    cancel = clock.schedule(ms, () => reject(new TooLateError(`${what} did not come within ${ms / 1_000} s`)));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    cancel();
    // It may still fail, when nobody looks.
    promise.catch(() => {});
  }
}
