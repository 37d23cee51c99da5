import { type BuildNeed, refuseBuild, type WorkerOffer } from "./eligibility.ts";
import type { InstanceFacts, JobFacts, PlaceFacts } from "./facts.ts";
import { explainScore, instancePoints, jobPoints, placePoints, type ScoreBreakdown } from "./score.ts";

/** A build that is ready. */
export interface Candidate extends BuildNeed {
  readonly id: string;
  readonly job: JobFacts;
  /** By worker, bytes of its direct inputs that the worker has made, or was given before. */
  readonly bytesAt: ReadonlyMap<string, number>;
  readonly failedWorkers: readonly string[];
}

/** A worker with its free places. */
export interface FreeWorker extends WorkerOffer {
  /** Of its session: several may have one worker id, each for organizations of its own. */
  readonly key: string;
  /** By group, how many places it has in all; `groups[i].places` are those that it asks to fill. */
  readonly placesAll: readonly number[];
  /**
   * By group, how many of its places have no build. What it asks for beyond them is for builds that wait at the worker
   * for a place, and filled only when no other place is free.
   */
  readonly placesIdle: readonly number[];
  readonly freeMemoryMb: number | null;
}

export interface Choice {
  readonly buildId: string;
  readonly workerId: string;
  /** Of the worker's session. */
  readonly key: string;
  /** The number of the worker's group. */
  readonly group: number;
  readonly job: JobFacts;
  readonly place: PlaceFacts;
  readonly instance: InstanceFacts;
  readonly score: ScoreBreakdown;
}

interface Place {
  readonly worker: FreeWorker;
  readonly group: number;
  free: number;
  /** For builds that wait at the worker. */
  spare: number;
  memoryMb: number | null;
}

/**
 * Fills free places. Of what is ready the best total goes first, to the place where it is best; equal ones go by id.
 * `running` says how many builds each organization has; what is chosen counts at once. A place stays free only when no
 * candidate may run there.
 */
export function chooseBuilds(
  candidates: readonly Candidate[],
  workers: readonly FreeWorker[],
  running: ReadonlyMap<string, number>,
): Choice[] {
  const places = workers.flatMap((worker) =>
    worker.groups.map((group, index): Place => {
      const free = Math.min(group.places, worker.placesIdle[index] ?? 0);
      return { worker, group: index, free, spare: group.places - free, memoryMb: worker.freeMemoryMb };
    }),
  );
  const eligible = new EligiblePlaces(places);
  const queues = queuesOf(candidates);
  const shares = new Shares(running, [...queues.keys()]);
  const choices: Choice[] = [];
  while (queues.size > 0) {
    const candidate = takeBest(queues, shares);
    const place = bestPlace(candidate, eligible.of(candidate));
    if (!place) continue;
    choices.push(describe(candidate, place, shares));
    if (place.free > 0) place.free--;
    else place.spare--;
    if (place.memoryMb !== null) place.memoryMb -= candidate.job.expectedMemoryMb ?? 0;
    shares.add(candidate.organizationId);
  }
  return choices;
}

interface Scored {
  readonly candidate: Candidate;
  readonly points: number;
}

interface Queue {
  /** Best last, so that taking one costs nothing. */
  readonly candidates: Scored[];
}

/** By organization: within one the order does not change while places are filled. */
function queuesOf(candidates: readonly Candidate[]): Map<string, Queue> {
  const scored = candidates.map((candidate) => ({ candidate, points: jobPoints(candidate.job) }));
  scored.sort((a, b) => a.points - b.points || (a.candidate.id < b.candidate.id ? 1 : -1));
  const groups = Map.groupBy(scored, ({ candidate }) => candidate.organizationId);
  return new Map(Array.from(groups, ([organizationId, list]) => [organizationId, { candidates: list }]));
}

function takeBest(queues: Map<string, Queue>, shares: Shares): Candidate {
  const heads = Array.from(queues, ([organizationId, { candidates }]) => {
    const { candidate, points } = candidates.at(-1) as Scored;
    return { organizationId, id: candidate.id, points: points + instancePoints(shares.of(organizationId)) };
  });
  const { organizationId } = heads.reduce((best, head) => (isAhead(head, best) ? head : best));
  const { candidates } = queues.get(organizationId) as Queue;
  const { candidate } = candidates.pop() as Scored;
  if (candidates.length === 0) queues.delete(organizationId);
  return candidate;
}

function bestPlace(candidate: Candidate, places: readonly Place[]): Place | null {
  return bestOf(candidate, places, "free") ?? bestOf(candidate, places, "spare");
}

function bestOf(candidate: Candidate, places: readonly Place[], room: "free" | "spare"): Place | null {
  let best: (Ranked & { readonly place: Place }) | null = null;
  // Each build that is given out looks at each worker: no lists in between.
  for (const place of places) {
    if (place[room] === 0) continue;
    const points = placePoints(candidate.job, placeFacts(candidate, place));
    const one = { id: place.worker.workerId, points, place };
    if (best === null || isAhead(one, best)) best = one;
  }
  return best?.place ?? null;
}

interface Ranked {
  readonly id: string;
  readonly points: number;
}

/** More points, or with as many the smaller id. */
function isAhead(one: Ranked, other: Ranked): boolean {
  return one.points > other.points || (one.points === other.points && one.id < other.id);
}

function placeFacts({ job, bytesAt, failedWorkers }: Candidate, { worker, group, free, memoryMb }: Place): PlaceFacts {
  const all = Math.max(worker.placesAll[group] ?? 0, 1);
  return {
    missingBytes: job.inputBytes - (bytesAt.get(worker.workerId) ?? 0),
    failedHere: failedWorkers.includes(worker.workerId),
    systemFeatures: worker.groups[group]?.systemFeatures.length ?? 0,
    usedShare: Math.min(1, Math.max(0, 1 - free / all)),
    freeMemoryMb: memoryMb,
  };
}

function describe(candidate: Candidate, place: Place, shares: Shares): Choice {
  const { id: buildId, job, organizationId } = candidate;
  const facts = placeFacts(candidate, place);
  const instance = shares.of(organizationId);
  const score = explainScore(job, facts, instance);
  const { key, workerId } = place.worker;
  return { buildId, workerId, key, group: place.group, job, place: facts, instance, score };
}

/** Who has how much of the running builds. */
class Shares {
  readonly #running: Map<string, number>;
  readonly #waiting: readonly string[];
  #total: number;
  #least = 0;

  constructor(running: ReadonlyMap<string, number>, waiting: readonly string[]) {
    this.#running = new Map(running);
    this.#waiting = waiting;
    this.#total = [...running.values()].reduce((sum, count) => sum + count, 0);
    this.#findLeast();
  }

  of(organizationId: string): InstanceFacts {
    return { shareAhead: this.#total === 0 ? 0 : (this.#count(organizationId) - this.#least) / this.#total };
  }

  add(organizationId: string): void {
    const before = this.#count(organizationId);
    this.#running.set(organizationId, before + 1);
    this.#total++;
    if (before === this.#least) this.#findLeast();
  }

  #count(organizationId: string): number {
    return this.#running.get(organizationId) ?? 0;
  }

  #findLeast(): void {
    this.#least = Math.min(...this.#waiting.map((organizationId) => this.#count(organizationId)));
  }
}

/** The predicate is asked once for each need and place. */
class EligiblePlaces {
  readonly #places: readonly Place[];
  readonly #byNeed = new Map<string, readonly Place[]>();

  constructor(places: readonly Place[]) {
    this.#places = places;
  }

  of(need: BuildNeed): readonly Place[] {
    const key = needKey(need);
    const known = this.#byNeed.get(key);
    if (known) return known;
    const found = this.#places.filter(({ worker, group }) => {
      const asked = worker.groups[group];
      return asked !== undefined && refuseBuild(need, worker, asked) === null;
    });
    this.#byNeed.set(key, found);
    return found;
  }
}

/** The same for builds that the same workers can run. */
export function needKey({ organizationId, system, requiredFeatures }: BuildNeed): string {
  return JSON.stringify([organizationId, system, requiredFeatures]);
}
