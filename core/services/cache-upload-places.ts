import { DomainError } from "../errors.ts";
import { Semaphore } from "../lib/semaphore.ts";

export interface UploadPlacesLimits {
  /** Bodies that are read at a time, of everybody together. */
  readonly allMax: number;
  /** Bodies of one person that are read at a time. */
  readonly eachMax: number;
  /** Those that wait for a place; further ones are refused. */
  readonly waitingMax: number;
}

/**
 * Nix sends up to 25 files at a time. Each one that is read takes some 10 MB, and up to 128 MB where its sender has
 * packed it so.
 */
const LIMITS: UploadPlacesLimits = { allMax: 32, eachMax: 8, waitingMax: 64 };

interface Person {
  readonly places: Semaphore;
  holders: number;
}

/** How many uploads may be under way: so few that memory suffices, and so few of each person that others have some. */
export class UploadPlaces {
  readonly #limits: UploadPlacesLimits;
  readonly #places: Semaphore;
  readonly #people = new Map<string, Person>();

  constructor(limits: UploadPlacesLimits = LIMITS) {
    this.#limits = limits;
    this.#places = new Semaphore(limits.allMax);
  }

  /** Runs the task once there is a place; the body of a request that waits stays with its sender. */
  async run<T>(userId: string, task: () => Promise<T>): Promise<T> {
    const { eachMax, waitingMax } = this.#limits;
    const person = this.#people.get(userId) ?? { places: new Semaphore(eachMax), holders: 0 };
    if (person.holders >= eachMax + waitingMax) {
      throw new DomainError("too_many_requests", `You have ${person.holders} uploads under way: wait for some to end`);
    }
    this.#people.set(userId, person);
    person.holders++;
    try {
      return await person.places.run(() => this.#places.run(task));
    } finally {
      person.holders--;
      if (person.holders === 0) this.#people.delete(userId);
    }
  }
}
