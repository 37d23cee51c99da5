/** Runs a task when it is wanted: once at a time, and once more for all that wanted it meanwhile. */
export class RepeatedTask {
  readonly #task: () => Promise<void>;
  #wanted = false;
  #running = false;

  /** A task that rejects counts as done; it has to report that itself. */
  constructor(task: () => Promise<void>) {
    this.#task = task;
  }

  want(): void {
    this.#wanted = true;
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    while (this.#wanted) {
      this.#wanted = false;
      await this.#task().catch(() => {});
    }
    this.#running = false;
  }
}
