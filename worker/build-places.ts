import type { Clock } from "#core/lib/clock.ts";

export interface BuildPlacesOptions {
  readonly clock: Clock;
  /** Builders that may run at a time. It may change. */
  readonly places: () => number;
  /** What may be asked for at one time, if that is more than the places. */
  readonly askedMax?: () => number;
  /** Builds that may be prepared while they wait for a place; each has a connection to the nix-daemon. By default 2. */
  readonly preparedMax?: number;
  /** Waited so long that another worker is to have it. */
  readonly giveBack: (attemptId: string) => void;
}

type Stage = "waiting" | "building" | "delivering";

interface Held {
  stage: Stage;
  isPreparing: boolean;
  /** Since when it is in this stage. */
  sinceMs: number;
  readonly prepare: PromiseWithResolvers<void>;
  readonly begin: PromiseWithResolvers<void>;
  cancel: () => void;
}

/** Builds and deliveries that take less than this are quick: then the way to the server and back is what takes time. */
const QUICK_MS = 250;
/** Longer no build waits here for others that were expected to be quick. */
const WAITING_MS_MAX = 1_000;
/** Deliveries beyond one for each place, while they are quick. */
const QUICK_DELIVERIES = 32;
/** While builds are quick, what is asked for beyond those that can begin keeps the places busy for about this long. */
const AHEAD_MS = 100;
/** At least so many place-fulls. */
const AHEAD_PLACES = 2;
/** Builds that are prepared while they wait for a place. */
export const PREPARED_MAX = 2;
/** Of the mean, what is new in it. */
const NEW_SHARE = 0.25;

/**
 * The builds of a worker, by what they wait for, and how many more it wants.
 *
 *     asked for -> waiting for a place -> building -> delivering what was made -> over
 *
 * The first of those that wait are prepared meanwhile, so that a place that becomes free goes on at once.
 *
 * Never do more builders run than there are places. Deliveries overlap with builds as long as they keep up: a slow line
 * holds builds back instead of piling up what they made. While builds and deliveries are quick, some more are asked for
 * than can begin, so that no place waits for an answer, and several at a time, so that one answer serves them all: the
 * quicker, the more.
 */
export class BuildPlaces {
  readonly #options: BuildPlacesOptions;
  readonly #held = new Map<string, Held>();
  #asked = 0;
  #buildMs: number | null = null;
  #deliveryMs: number | null = null;

  constructor(options: BuildPlacesOptions) {
    this.#options = options;
  }

  /** How many are to be asked for now: as many were not asked for yet. They count as asked for from now on. */
  ask(): number {
    const places = this.#options.places();
    const waiting = this.#count("waiting") + this.#asked;
    const missing = this.#startable - waiting;
    const askedMax = Math.max(places, this.#options.askedMax?.() ?? 0);
    const ahead = this.#ahead(places, askedMax);
    const isUrgent = missing > 0;
    const count = Math.min(missing + ahead, askedMax - this.#asked);
    if (count <= 0 || (!isUrgent && count < ahead / 2)) return 0;
    this.#asked += count;
    return count;
  }

  /** What was asked for will not come: the session is over, or the worker has said anew what it can do. */
  forgetAsked(): void {
    this.#asked = 0;
  }

  /** Whether a build that has arrived was asked for, or could begin at once. */
  get hasRoom(): boolean {
    return this.#asked > 0 || this.#count("waiting") < this.#startable;
  }

  /** A build has arrived. Resolves when what it needs may be looked at and brought; never, if it `left` before. */
  arrived(attemptId: string): Promise<void> {
    const { clock, giveBack } = this.#options;
    const [prepare, begin] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    this.#asked = Math.max(0, this.#asked - 1);
    const cancel = clock.schedule(WAITING_MS_MAX, () => {
      // Whatever runs is not as quick as was thought.
      this.#buildMs = null;
      giveBack(attemptId);
    });
    const sinceMs = clock.monotonic();
    this.#held.set(attemptId, { stage: "waiting", isPreparing: false, sinceMs, prepare, begin, cancel });
    this.#beginNext();
    return prepare.promise;
  }

  /** Resolves when the builder may begin; at once for a build that has `left`, whose attempt is over. */
  mayBegin(attemptId: string): Promise<void> {
    return this.#held.get(attemptId)?.begin.promise ?? Promise.resolve();
  }

  /** The builder's place is free; what it made is on its way. */
  builderEnded(attemptId: string): void {
    const held = this.#held.get(attemptId);
    if (held?.stage !== "building") return;
    this.#buildMs = this.#mean(this.#buildMs, held);
    this.#enter(held, "delivering");
    this.#beginNext();
  }

  /** It is over, however it ended. */
  left(attemptId: string): void {
    const held = this.#held.get(attemptId);
    if (!held) return;
    held.cancel();
    if (held.stage === "delivering") this.#deliveryMs = this.#mean(this.#deliveryMs, held);
    this.#held.delete(attemptId);
    this.#beginNext();
  }

  /** Whether its builder has ended, and what it made is on its way. */
  isDelivering(attemptId: string): boolean {
    return this.#held.get(attemptId)?.stage === "delivering";
  }

  /** Builds that have not begun. */
  get waiting(): readonly string[] {
    return Array.from(this.#held).flatMap(([id, { stage }]) => (stage === "waiting" ? [id] : []));
  }

  #beginNext(): void {
    let prepared = 0;
    for (const held of this.#held.values()) {
      if (held.stage !== "waiting") continue;
      if (this.#startable > 0) {
        held.cancel();
        this.#enter(held, "building");
        this.#prepare(held);
        held.begin.resolve();
      } else if (prepared++ < (this.#options.preparedMax ?? PREPARED_MAX)) this.#prepare(held);
      else return;
    }
  }

  #prepare(held: Held): void {
    if (held.isPreparing) return;
    held.isPreparing = true;
    held.prepare.resolve();
  }

  #enter(held: Held, stage: Stage): void {
    held.stage = stage;
    held.sinceMs = this.#options.clock.monotonic();
  }

  /** How many builds are to wait here for a place. */
  #ahead(places: number, askedMax: number): number {
    if (!this.#isQuick) return 0;
    const least = AHEAD_PLACES * places;
    return Math.min(
      Math.max(Math.ceil((AHEAD_MS * places) / Math.max(this.#lastedMs, 1)), least),
      Math.max(askedMax, least),
    );
  }

  /** What a build takes: on average, or the longest of those that run, if that is longer. */
  get #lastedMs(): number {
    const now = this.#options.clock.monotonic();
    let longest = this.#buildMs ?? 0;
    for (const { stage, sinceMs } of this.#held.values())
      if (stage === "building") longest = Math.max(longest, now - sinceMs);
    return longest;
  }

  /** How many builders may begin now. */
  get #startable(): number {
    const places = this.#options.places();
    const building = this.#count("building");
    const all = building + this.#count("delivering");
    return Math.min(places - building, 2 * places + (this.#isQuick ? QUICK_DELIVERIES : 0) - all);
  }

  get #isQuick(): boolean {
    if (!isQuick(this.#buildMs) || !isQuick(this.#deliveryMs)) return false;
    const now = this.#options.clock.monotonic();
    for (const { stage, sinceMs } of this.#held.values()) {
      if (stage !== "waiting" && now - sinceMs >= QUICK_MS) return false;
    }
    return true;
  }

  #mean(before: number | null, { sinceMs }: Held): number {
    const ms = this.#options.clock.monotonic() - sinceMs;
    return before === null ? ms : before + (ms - before) * NEW_SHARE;
  }

  #count(stage: Stage): number {
    let count = 0;
    for (const held of this.#held.values()) if (held.stage === stage) count++;
    return count;
  }
}

function isQuick(ms: number | null): boolean {
  return ms !== null && ms < QUICK_MS;
}
