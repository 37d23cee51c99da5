import { EvaluationError, throwIfAborted } from "./errors.ts";

/** One task at a time for each folder; the others wait in the order they came. */
export class FolderLocks {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Throws `EvaluationError` at once when the signal is aborted before the task's turn; afterwards that is its own. */
  async run<T>(folder: string, task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(new EvaluationError("aborted", "the evaluation was aborted"));
    signal?.addEventListener("abort", abort, { once: true });
    const before = this.#last.get(folder) ?? Promise.resolve();
    const mine = before.then(() => {
      signal?.removeEventListener("abort", abort);
      throwIfAborted(signal);
      return task();
    });
    const settled = mine.then(
      () => {},
      () => {},
    );
    this.#last.set(folder, settled);
    void settled.then(() => {
      if (this.#last.get(folder) === settled) this.#last.delete(folder);
    });
    return await Promise.race([mine, aborted.promise]);
  }
}
