/** Time as an argument, so that a simulation can own it. */
export interface Clock {
  /**
   * Milliseconds since the Unix epoch. May jump; never used to decide whether a lease holds (that is database time).
   */
  now(): number;
  /** Milliseconds on a clock that never jumps. For timeouts and durations. */
  monotonic(): number;
  /** Runs `action` once after `ms`. The returned function cancels it and may be called any number of times. */
  schedule(ms: number, action: () => void): () => void;
}

export const SECOND = 1_000;
export const MINUTE: number = 60 * SECOND;
export const HOUR: number = 60 * MINUTE;
export const DAY: number = 24 * HOUR;

/** The clock of the runtime the code happens to run on. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  schedule: (ms, action) => {
    const timer = setTimeout(action, ms);
    return () => clearTimeout(timer);
  },
};

/**
 * Resolves after `ms`, or at once when the signal is aborted. It never rejects: look at `signal.aborted` afterwards.
 */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const finish = () => {
      cancel();
      signal?.removeEventListener("abort", finish);
      resolve();
    };
    const cancel = clock.schedule(ms, finish);
    signal?.addEventListener("abort", finish, { once: true });
  });
}
