import type { Clock } from "#core/lib/clock.ts";

export interface BuildPlacesOptions {
  readonly clock: Clock;
  /** Builders that may run at a time. It may change. */
  readonly places: () => number;
  /** Waited so long that another worker is to have it. */
  readonly giveBack: (attemptId: string) => void;
}

type Stage = "waiting" | "building" | "delivering";

interface Held {
  stage: Stage;
  /** Since when it is in this stage. */
  sinceMs: number;
  readonly begun: Promise<void>;
  readonly begin: () => void;
  cancel: () => void;
}

/** Builds and deliveries that take less than this are quick: then the way to the server and back is what takes time. */
const QUICK_MS = 250;
/** Longer no build waits here for others that were expected to be quick. */
const WAITING_MS_MAX = 1_000;
/** Deliveries beyond one for each place, while they are quick. */
const QUICK_DELIVERIES = 16;
/** Of the mean, what is new in it. */
const NEW_SHARE = 0.25;

/**
 * The builds of a worker, by what they wait for, and how many more it wants.
 *
 *     asked for -> waiting for a place -> building -> delivering what was made -> over
 *
 * Never do more builders run than there are places. Deliveries overlap with builds as long as they keep up: a slow line
 * holds builds back instead of piling up what they made. While builds and deliveries are quick, some more are asked for
 * than can begin, so that no place waits for an answer, and by the place-full, so that one answer serves several.
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
    const wanted = missing + (this.#isQuick ? 2 * places : 0);
    const isUrgent = missing > 0;
    const count = Math.min(wanted, places - this.#asked);
    if (count <= 0 || (!isUrgent && count < places)) return 0;
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

  /** A build has arrived. Resolves when its builder may begin; never, if it `left` before. */
  arrived(attemptId: string): Promise<void> {
    const { clock, giveBack } = this.#options;
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    this.#asked = Math.max(0, this.#asked - 1);
    const cancel = clock.schedule(WAITING_MS_MAX, () => {
      // Whatever runs is not as quick as was thought.
      this.#buildMs = null;
      giveBack(attemptId);
    });
    this.#held.set(attemptId, { stage: "waiting", sinceMs: clock.monotonic(), begun, begin, cancel });
    this.#beginNext();
    return begun;
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
    for (const held of this.#held.values()) {
      if (this.#startable <= 0) return;
      if (held.stage !== "waiting") continue;
      held.cancel();
      this.#enter(held, "building");
      held.begin();
    }
  }

  #enter(held: Held, stage: Stage): void {
    held.stage = stage;
    held.sinceMs = this.#options.clock.monotonic();
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
