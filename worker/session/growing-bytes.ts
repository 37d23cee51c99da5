const CAPACITY_MIN = 1024;

/** Bytes one behind the other in one buffer: many small pieces take no more memory than one large one. */
export class GrowingBytes {
  readonly #capacityMin: number;
  #buffer = new Uint8Array(0);
  #length = 0;

  /** `capacityMin`: what is taken at once, for who knows that there will be as much. */
  constructor(capacityMin: number = CAPACITY_MIN) {
    this.#capacityMin = capacityMin;
  }

  get length(): number {
    return this.#length;
  }

  append(bytes: Uint8Array): void {
    const length = this.#length + bytes.length;
    if (length > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(2 * length, this.#capacityMin));
      larger.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = larger;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = length;
  }

  /** What there is from `offset` on. Later pieces do not change it. */
  from(offset: number): Uint8Array {
    return this.#buffer.subarray(offset, this.#length);
  }

  /** All of it; nothing is left. */
  take(): Uint8Array {
    const all = this.from(0);
    this.#buffer = new Uint8Array(0);
    this.#length = 0;
    return all;
  }
}
