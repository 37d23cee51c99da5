/** One task at a time for each folder; the others wait in the order they came. */
export class FolderLocks {
  readonly #last = new Map<string, Promise<unknown>>();

  async run<T>(folder: string, task: () => Promise<T>): Promise<T> {
    const before = this.#last.get(folder) ?? Promise.resolve();
    const mine = before.then(task, task);
    const settled = mine.catch(() => {});
    this.#last.set(folder, settled);
    try {
      return await mine;
    } finally {
      if (this.#last.get(folder) === settled) this.#last.delete(folder);
    }
  }
}
