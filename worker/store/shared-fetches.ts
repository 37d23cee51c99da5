import type { StorePath } from "#core/nix/store-path.ts";
import { unlessAborted } from "./unless-aborted.ts";

/** Builds that need the same path at the same time share one fetch of it. */
export class SharedFetches {
  readonly #running = new Map<StorePath, Promise<unknown>>();

  /**
   * Runs `fetch` unless another one of this path runs and succeeds meanwhile. A failure is never shared: the other's
   * attempt may have ended, or its organization may not read the path. Throws what its own `fetch` throws, or the
   * signal's reason.
   */
  async run(path: StorePath, signal: AbortSignal, fetch: () => Promise<void>): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const running = this.#running.get(path);
      if (!running) break;
      const succeeded = running.then(
        () => true,
        () => false,
      );
      if (await unlessAborted(succeeded, signal)) return;
    }
    const own = fetch();
    this.#running.set(path, own);
    try {
      await own;
    } finally {
      this.#running.delete(path);
    }
  }
}
