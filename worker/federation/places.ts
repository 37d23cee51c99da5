/** The places of one group of one downstream worker. */
export class Places {
  /** What the worker says it has. */
  readonly max: number;
  #busy: number;
  /** What of them the relay may fill: it has a limit over all of its workers. */
  #allotted: number;

  /** A worker asks for all that it has free: until then they count as busy. */
  constructor(max: number) {
    this.max = max;
    this.#busy = max;
    this.#allotted = max;
  }

  /** How many may be filled now. */
  get free(): number {
    return Math.max(0, this.#allotted - this.#busy);
  }

  get allotted(): number {
    return this.#allotted;
  }

  allot(places: number): void {
    this.#allotted = Math.min(places, this.max);
  }

  ask(places: number): void {
    this.#busy = Math.max(0, this.#busy - places);
  }

  take(): void {
    this.#busy = Math.min(this.max, this.#busy + 1);
  }
}
