import type { WorkerSession } from "./session.ts";

/**
 * Sessions of one address that have not proved themselves yet. A fleet behind one address comes back in smaller groups.
 */
const HANDSHAKES_AN_ADDRESS_MAX = 32;

/**
 * The sessions of a server. Those that have not proved themselves take no places of those that have: a stranger who
 * opens sockets keeps no worker out.
 */
export class SessionPlaces {
  readonly #max: number;
  readonly #addresses = new Map<WorkerSession, string>();
  readonly #isRegistered: (session: WorkerSession) => boolean;

  /** `max`: of either kind, the option maxProtoConnections. */
  constructor(max: number, isRegistered: (session: WorkerSession) => boolean) {
    this.#max = max;
    this.#isRegistered = isRegistered;
  }

  get size(): number {
    return this.#addresses.size;
  }

  [Symbol.iterator](): Iterator<WorkerSession> {
    return this.#addresses.keys();
  }

  add(session: WorkerSession, address: string): void {
    this.#addresses.set(session, address);
  }

  delete(session: WorkerSession): void {
    this.#addresses.delete(session);
  }

  /** Whether one more socket of the address may begin a session. */
  hasRoomFor(address: string): boolean {
    let registered = 0;
    let proving = 0;
    let ofAddress = 0;
    for (const [session, other] of this.#addresses) {
      if (this.#isRegistered(session)) registered++;
      else {
        proving++;
        if (other === address) ofAddress++;
      }
    }
    return registered < this.#max && proving < this.#max && ofAddress < HANDSHAKES_AN_ADDRESS_MAX;
  }

  /** Null when the worker that has just proved itself may stay. The place of an older session of it is its own. */
  refuse({ workerId }: WorkerSession): string | null {
    let others = 0;
    for (const session of this.#addresses.keys()) {
      if (this.#isRegistered(session) && session.workerId !== workerId) others++;
    }
    if (others < this.#max) return null;
    return `this server has as many workers as it may (maxProtoConnections is ${this.#max}); try again later`;
  }
}
