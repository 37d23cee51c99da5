import { DomainError } from "../errors.ts";
import { Semaphore } from "../lib/semaphore.ts";

export interface UploadPlacesLimits {
  /** Bodies of one person that are read at a time. */
  readonly eachMax: number;
  /** Those that wait for a place; further ones are refused. */
  readonly waitingMax: number;
}

/** Nix sends up to 25 files at a time; each one that is read takes some 10 MB and a share of the processor. */
const LIMITS: UploadPlacesLimits = { eachMax: 8, waitingMax: 64 };

interface Person {
  readonly places: Semaphore;
  holders: number;
}

/** How many uploads each person may have under way, so that none takes the whole server. */
export class UploadPlaces {
  readonly #limits: UploadPlacesLimits;
  readonly #people = new Map<string, Person>();

  constructor(limits: UploadPlacesLimits = LIMITS) {
    this.#limits = limits;
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
      return await person.places.run(task);
    } finally {
      person.holders--;
      if (person.holders === 0) this.#people.delete(userId);
    }
  }
}
