import { assert } from "./assert.ts";
import { type Clock, sleep } from "./clock.ts";

export interface GroupQueueOptions<Item, Outcome> {
  /**
   * Handles the items as one, all of them or none, and answers one outcome for each in their order. Called for one
   * group at a time.
   */
  readonly handle: (items: readonly Item[]) => Promise<readonly Outcome[]>;
  /** Whether a failure says nothing about any one item (the database is away): then nobody is tried alone. */
  readonly concernsAll: (error: unknown) => boolean;
  readonly groupMax: number;
  /** More waiting items than this are refused. */
  readonly waitingMax: number;
  /** So far apart groups begin that are not full: what comes quicker than that goes together. By default 0. */
  readonly apart?: GroupDistance;
}

export interface GroupDistance {
  readonly ms: number;
  /** The same while all that waits can wait. At least `ms`, which is the default. */
  readonly patientMs?: number;
  readonly clock: Clock;
}

export interface AddOptions {
  /** Nobody is kept waiting by it for a while. */
  readonly isPatient?: boolean;
}

/** More wait already than the queue holds. Nothing was done with the item. */
export class QueueFullError extends Error {
  override readonly name = "QueueFullError";
}

interface Waiting<Item, Outcome> {
  readonly item: Item;
  readonly isPatient: boolean;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Handles together what came in while the group before was under way, or shortly after it began: where every group
 * costs about the same, ten items cost little more than one. Only items that can wait do so for others that may come;
 * any other that comes alone does not wait at all, and takes along what waits. Items are handled in the order they
 * came. When a group fails, each of its items is handled once more alone, in that order: a bad one fails by itself.
 */
export class GroupQueue<Item, Outcome> {
  readonly #options: GroupQueueOptions<Item, Outcome>;
  #waiting: Waiting<Item, Outcome>[] = [];
  #running = false;
  /** Ends the wait of those that can wait. */
  #hurry: () => void = () => {};
  #onIdle: () => void = () => {};

  constructor(options: GroupQueueOptions<Item, Outcome>) {
    assert(options.groupMax > 0, "a group has at least one item");
    this.#options = options;
  }

  /** Called each time when nothing waits, and the next item would begin at once. */
  set onIdle(action: () => void) {
    this.#onIdle = action;
  }

  /** Resolves with the item's own outcome; rejects with why it failed, or with `QueueFullError`. */
  add(item: Item, { isPatient = false }: AddOptions = {}): Promise<Outcome> {
    if (this.#waiting.length >= this.#options.waitingMax) {
      return Promise.reject(new QueueFullError(`${this.#options.waitingMax} others wait already`));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, isPatient, resolve, reject });
      if (!this.#running) void this.#run();
      else if (this.#isPressing) this.#hurry();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    // What is added in the same turn goes along.
    await Promise.resolve();
    const { groupMax, apart } = this.#options;
    let begunMs: number | null = null;
    while (this.#waiting.length > 0) {
      if (apart && !this.#isPressing) await this.#wait(apart, begunMs ?? apart.clock.monotonic());
      begunMs = apart ? apart.clock.monotonic() : 0;
      const nextMs = begunMs + (apart?.ms ?? 0);
      const group = this.#waiting.slice(0, groupMax);
      this.#waiting = this.#waiting.slice(group.length);
      await this.#handle(group);
      const leftMs = apart ? nextMs - apart.clock.monotonic() : 0;
      if (apart && leftMs > 0 && this.#waiting.length < groupMax) await sleep(apart.clock, leftMs);
    }
    this.#running = false;
    this.#onIdle();
  }

  /** Somebody cannot wait, or more would not go into the group. */
  get #isPressing(): boolean {
    return this.#waiting.length >= this.#options.groupMax || this.#waiting.some(({ isPatient }) => !isPatient);
  }

  async #wait({ ms, patientMs = ms, clock }: GroupDistance, sinceMs: number): Promise<void> {
    const leftMs = sinceMs + patientMs - clock.monotonic();
    if (leftMs <= 0) return;
    const hurried = new AbortController();
    this.#hurry = () => hurried.abort();
    await sleep(clock, leftMs, hurried.signal);
    this.#hurry = () => {};
  }

  async #handle(group: readonly Waiting<Item, Outcome>[]): Promise<void> {
    try {
      const outcomes = await this.#options.handle(group.map(({ item }) => item));
      assert(outcomes.length === group.length, "each item has an outcome");
      for (const [index, { resolve }] of group.entries()) resolve(outcomes[index] as Outcome);
    } catch (error) {
      const alone = group.length > 1 && !this.#options.concernsAll(error);
      if (alone) for (const member of group) await this.#handle([member]);
      else for (const { reject } of group) reject(error);
    }
  }
}

/** A queue for each key: what one waits for does not hold up the others. */
export class GroupQueues<Item, Outcome> {
  readonly #options: Omit<GroupQueueOptions<Item, Outcome>, "handle">;
  readonly #handle: (key: string, items: readonly Item[]) => Promise<readonly Outcome[]>;
  readonly #queues = new Map<string, GroupQueue<Item, Outcome>>();

  constructor({
    handle,
    ...options
  }: Omit<GroupQueueOptions<Item, Outcome>, "handle"> & {
    readonly handle: (key: string, items: readonly Item[]) => Promise<readonly Outcome[]>;
  }) {
    this.#options = options;
    this.#handle = handle;
  }

  async add(key: string, item: Item, options: AddOptions = {}): Promise<Outcome> {
    const known = this.#queues.get(key);
    if (known) return await known.add(item, options);
    const handle = (items: readonly Item[]) => this.#handle(key, items);
    const queue = new GroupQueue<Item, Outcome>({ ...this.#options, handle });
    this.#queues.set(key, queue);
    queue.onIdle = () => this.#queues.delete(key);
    return await queue.add(item, options);
  }
}
