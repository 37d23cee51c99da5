export interface RecentMapLimits {
  readonly entriesMax: number;
  readonly bytesMax: number;
}

interface Link<Value> {
  readonly key: string;
  readonly value: Value;
  older: Link<Value>;
  newer: Link<Value>;
}

/**
 * The values used last, by their keys, within limits: what was not used for longest makes room.
 *
 * They are in a ring in the order of use. The order of a map's own entries would do, did it not cost the 39 µs that a
 * map of 20 000 entries takes to find the first one after others went, or to move one to the end.
 */
export class RecentMap<Value> {
  readonly #limits: RecentMapLimits;
  readonly #bytesOf: (value: Value) => number;
  readonly #links = new Map<string, Link<Value>>();
  /** Between the newest and the oldest. */
  readonly #seam: Link<Value>;
  #bytes = 0;

  /** What `bytesOf` says of a value must not change while it is in here. */
  constructor(limits: RecentMapLimits, bytesOf: (value: Value) => number) {
    this.#limits = limits;
    this.#bytesOf = bytesOf;
    const seam = { key: "" } as Link<Value>;
    seam.older = seam;
    seam.newer = seam;
    this.#seam = seam;
  }

  get size(): number {
    return this.#links.size;
  }

  get(key: string): Value | undefined {
    const link = this.#links.get(key);
    if (!link) return undefined;
    if (link !== this.#seam.older) {
      takeOut(link);
      this.#putNewest(link);
    }
    return link.value;
  }

  /** In place of what the key had. A value of more than all of the bytes is not kept. */
  set(key: string, value: Value): void {
    this.delete(key);
    const { entriesMax, bytesMax } = this.#limits;
    const bytes = this.#bytesOf(value);
    if (bytes > bytesMax) return;
    while (this.#links.size >= entriesMax || this.#bytes + bytes > bytesMax) this.delete(this.#seam.newer.key);
    const link: Link<Value> = { key, value, older: this.#seam, newer: this.#seam };
    this.#links.set(key, link);
    this.#putNewest(link);
    this.#bytes += bytes;
  }

  delete(key: string): void {
    const link = this.#links.get(key);
    if (!link) return;
    this.#links.delete(key);
    takeOut(link);
    this.#bytes -= this.#bytesOf(link.value);
  }

  /** In no order. */
  keys(): IterableIterator<string> {
    return this.#links.keys();
  }

  #putNewest(link: Link<Value>): void {
    const seam = this.#seam;
    link.older = seam.older;
    link.newer = seam;
    seam.older.newer = link;
    seam.older = link;
  }
}

function takeOut({ older, newer }: Link<unknown>): void {
  older.newer = newer;
  newer.older = older;
}
