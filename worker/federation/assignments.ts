import type { Clock } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { Capabilities } from "#core/protocol/worker-messages.ts";
import type { WorkerFacts } from "../session/introduction.ts";
import type { LiveSession } from "../session/live-session.ts";
import { type Member, type Offer, Offers } from "./offer.ts";
import { ATTEMPTS_MAX, type RelayedAttempts } from "./relayed-attempts.ts";
import type { Assignment, RelayedWorker } from "./relayed-worker.ts";

export interface AssignmentsOptions {
  readonly attempts: RelayedAttempts;
  readonly workers: () => readonly RelayedWorker[];
  /** Tells the server what the relay can do, now or when a session begins. */
  readonly describe: (facts: WorkerFacts) => void;
  readonly able: Pick<Capabilities, "fetch" | "eval" | "build">;
  readonly clock: Clock;
  readonly log: Logger;
}

type Kind = "build" | "evaluation";

/** Changes that come together are told together: a worker that connects brings some messages. */
const SETTLE_MS = 5;
/** A place that a job did not fit into is offered again after this, and not at once. */
const REFUSED_PAUSE_MS = 1_000;

/**
 * Advertises what the workers behind the relay can do, asks the server for jobs for their free places, and gives each
 * job to a worker of the group that it is for.
 */
export class Assignments {
  readonly #options: AssignmentsOptions;
  readonly #offers: Offers;
  #offer: Offer;
  #session: LiveSession | null = null;
  /** Places that the server was asked to fill and has not, by group. */
  #asked: Record<Kind, number[]> = { build: [], evaluation: [] };
  #told = "";
  #cancelSettle: (() => void) | null = null;
  #closed = false;

  constructor(options: AssignmentsOptions) {
    this.#options = options;
    this.#offers = new Offers(options.clock);
    this.#offer = this.#offers.of([], options.able);
  }

  /** Of the relay without anybody behind it. */
  get facts(): WorkerFacts {
    return this.#offer.facts;
  }

  attach(session: LiveSession): void {
    this.#session = session;
    this.#told = "";
    this.settleSoon();
  }

  /** The server's session is over, and with it everybody's behind the relay. */
  detach(): void {
    this.#session = null;
    this.#cancelSettle?.();
    this.#cancelSettle = null;
    this.#options.describe(this.#offers.of([], this.#options.able).facts);
  }

  /** No more jobs. */
  close(): void {
    this.#closed = true;
    this.#cancelSettle?.();
  }

  settleSoon(afterMs: number = SETTLE_MS): void {
    if (this.#closed || !this.#session) return;
    this.#cancelSettle ??= this.#options.clock.schedule(afterMs, () => {
      this.#cancelSettle = null;
      this.#settle();
    });
  }

  receive(session: LiveSession, message: Assignment): void {
    const { attempt, job, group = 0 } = message;
    this.#asked[job.kind][group] = Math.max(0, (this.#asked[job.kind][group] ?? 0) - 1);
    const place = this.#closed ? null : this.#placeFor(job.kind, group, job.organization);
    if (!place || this.#options.attempts.size >= ATTEMPTS_MAX) {
      if (job.kind === "build") session.connection.refuseStream(job.drv.stream);
      const reason = this.#closed ? "the relay is draining" : "no worker behind the relay has a place for it now";
      session.send({ type: "assign_job_response", attempt, accepted: false, reason });
      return this.settleSoon(REFUSED_PAUSE_MS);
    }
    const { worker } = place;
    const { workerId } = worker;
    this.#options.attempts.add({ id: attempt, workerId, organizationId: job.organization, kind: job.kind });
    const drv = job.kind === "build" ? session.connection.acceptStream(job.drv.stream) : null;
    worker.assign(message, place.group, drv);
  }

  /** The worker of the group that has most room, of those that are for the organization. */
  #placeFor(kind: Kind, group: number, organizationId: string): Member | null {
    const members = (kind === "build" ? this.#offer.builds : this.#offer.evaluations)[group] ?? [];
    const open = members.filter(
      ({ worker, places }) => places.free > 0 && worker.takesJobs && worker.isFor(organizationId),
    );
    if (open.length === 0) return null;
    return open.reduce((best, one) => (one.places.free > best.places.free ? one : best));
  }

  #settle(): void {
    const session = this.#session;
    if (!session) return;
    this.#offer = this.#offers.of(this.#options.workers(), this.#options.able);
    const free = { build: this.#offer.builds.map(freePlaces), evaluation: this.#offer.evaluations.map(freePlaces) };
    const kinds: readonly Kind[] = ["build", "evaluation"];
    const fewer = kinds.some((kind) => this.#asked[kind].some((asked, group) => asked > (free[kind][group] ?? 0)));
    const told = JSON.stringify(this.#offer.facts);
    if (fewer || told !== this.#told) {
      // What was asked for before is forgotten by it.
      this.#options.describe(this.#offer.facts);
      this.#told = told;
      this.#asked = { build: [], evaluation: [] };
    }
    for (const kind of kinds) {
      for (const [group, places] of free[kind].entries()) {
        const asked = this.#asked[kind][group] ?? 0;
        this.#asked[kind][group] = places;
        if (places > asked) session.send({ type: "request_job", kind, group, free: places - asked });
      }
    }
  }
}

function freePlaces(members: readonly Member[]): number {
  return members.reduce((sum, { worker, places }) => sum + (worker.takesJobs ? places.free : 0), 0);
}
