export interface RecentMapLimits {
  readonly entriesMax: number;
  readonly bytesMax: number;
}

interface Generation<Value> {
  readonly entries: Map<string, Value>;
  bytes: number;
}

function emptyGeneration<Value>(): Generation<Value> {
  return { entries: new Map(), bytes: 0 };
}

/**
 * The values used last, by their keys, within limits.
 *
 * Values are in two generations, each of half the size. A new one, or an old one that is asked for, goes to the young
 * generation; when that is full it becomes the old one, and what was old goes. So a value that is hot is only looked
 * up: to move it to the end of one map at each use would cost the 39 µs that such a map of 20 000 entries takes for it.
 */
export class RecentMap<Value> {
  readonly #limits: RecentMapLimits;
  readonly #bytesOf: (value: Value) => number;
  #young: Generation<Value> = emptyGeneration();
  #old: Generation<Value> = emptyGeneration();

  /** What `bytesOf` says of a value must not change while it is in here. */
  constructor(limits: RecentMapLimits, bytesOf: (value: Value) => number) {
    this.#limits = limits;
    this.#bytesOf = bytesOf;
  }

  get size(): number {
    return this.#young.entries.size + this.#old.entries.size;
  }

  get(key: string): Value | undefined {
    const young = this.#young.entries.get(key);
    if (young !== undefined) return young;
    const old = this.#old.entries.get(key);
    if (old !== undefined) this.set(key, old);
    return old;
  }

  /** Without counting as use. */
  peek(key: string): Value | undefined {
    return this.#young.entries.get(key) ?? this.#old.entries.get(key);
  }

  /** In place of what the key had. A value of more than half of the bytes is not kept. */
  set(key: string, value: Value): void {
    this.delete(key);
    const { entriesMax, bytesMax } = this.#limits;
    const bytes = this.#bytesOf(value);
    if (bytes > bytesMax / 2) return;
    if (this.#young.entries.size + 1 > entriesMax / 2 || this.#young.bytes + bytes > bytesMax / 2) {
      this.#old = this.#young;
      this.#young = emptyGeneration();
    }
    this.#young.entries.set(key, value);
    this.#young.bytes += bytes;
  }

  delete(key: string): void {
    for (const generation of [this.#young, this.#old]) {
      const value = generation.entries.get(key);
      if (value === undefined) continue;
      generation.entries.delete(key);
      generation.bytes -= this.#bytesOf(value);
    }
  }

  /** In no order. Copies all of them: for what happens rarely. */
  keys(): string[] {
    return [...this.#young.entries.keys(), ...this.#old.entries.keys()];
  }
}
