/**
 * Runs the tasks of one key one after the other, and those of different keys at once. After a task that failed no
 * other of its key is run: what came later must not be recorded without it.
 */
export class OrderedTasks {
  readonly #last = new Map<string, Promise<boolean>>();
  readonly #failed: (error: unknown) => void;

  constructor(failed: (error: unknown) => void) {
    this.#failed = failed;
  }

  /** Resolves when it is the task's turn no more, in whatever way. */
  run(key: string, task: () => Promise<void>): Promise<void> {
    const before = this.#last.get(key) ?? Promise.resolve(true);
    const done = before.then(async (succeeded) => {
      if (!succeeded) return false;
      try {
        await task();
        return true;
      } catch (error) {
        this.#failed(error);
        return false;
      }
    });
    this.#last.set(key, done);
    return done.then((succeeded) => {
      if (succeeded && this.#last.get(key) === done) this.#last.delete(key);
    });
  }
}
