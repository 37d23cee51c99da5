import { unlessAborted } from "../store/unless-aborted.ts";

/**
 * One operation for an output path at a time: a second one would wait for the first in the nix-daemon, which looks
 * only every 5 seconds whether it may go on.
 */
export class OutputLocks {
  readonly #held = new Map<string, Promise<void>>();

  /**
   * Resolves when all the names are free, with what frees them again. They are taken together, so that two builds
   * never wait for each other. `onWait` is called once when there is something to wait for. Throws the signal's reason.
   */
  async acquire(names: readonly string[], signal: AbortSignal, onWait: () => void): Promise<() => void> {
    let waited = false;
    for (;;) {
      signal.throwIfAborted();
      const busy = names.find((name) => this.#held.has(name));
      if (busy === undefined) return this.#hold(names);
      if (!waited) onWait();
      waited = true;
      await unlessAborted(this.#held.get(busy) as Promise<void>, signal);
    }
  }

  #hold(names: readonly string[]): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const name of names) this.#held.set(name, promise);
    return () => {
      for (const name of names) if (this.#held.get(name) === promise) this.#held.delete(name);
      resolve();
    };
  }
}
