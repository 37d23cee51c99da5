import type { Clock } from "../lib/clock.ts";
import { RecentMap, type RecentMapLimits } from "../lib/recent-map.ts";

/** A narinfo as it goes out. */
export interface RenderedNarInfo {
  readonly text: string;
  readonly etag: string;
  /** In bytes; a narinfo is ASCII. */
  readonly contentLength: string;
}

export interface NarInfoMemoryLimits extends RecentMapLimits {
  /** How long a lost wake-up can go unnoticed. */
  readonly ageMsMax: number;
}

/** 64 MiB hold about 57 000 narinfos of 600 bytes. */
export const NARINFO_MEMORY_LIMITS: NarInfoMemoryLimits = {
  entriesMax: 100_000,
  bytesMax: 64 * 1024 * 1024,
  ageMsMax: 60_000,
};

/** Of a map's entry, its key, two strings' heads and the ETag, measured as heap growth on a 64-bit runtime. */
const ENTRY_BYTES = 570;

interface Entry extends RenderedNarInfo {
  readonly expiresAt: number;
}

interface Flight {
  readonly audience: string | null;
  readonly value: Promise<RenderedNarInfo | null>;
  /** The path changed while it was looked up: what was read may be from before. */
  stale: boolean;
}

/** The narinfos used last, by `cache id/hash`. Only what exists is kept: a path that is pushed is there at once. */
export class NarInfoMemory {
  readonly #clock: Clock;
  readonly #ageMsMax: number;
  readonly #entries: RecentMap<Entry>;
  readonly #flights = new Map<string, Set<Flight>>();

  constructor(clock: Clock, limits: NarInfoMemoryLimits = NARINFO_MEMORY_LIMITS) {
    this.#clock = clock;
    this.#ageMsMax = limits.ageMsMax;
    this.#entries = new RecentMap(limits, bytesOf);
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): RenderedNarInfo | undefined {
    const entry = this.#entries.get(key);
    return entry && entry.expiresAt > this.#clock.monotonic() ? entry : undefined;
  }

  /**
   * Looks up once for everybody of one audience who asks at the same time, and keeps what was found unless it changed
   * meanwhile. Audiences do not wait for each other: the look-up of one may rest on the answer to another.
   */
  load(
    key: string,
    lookUp: () => Promise<RenderedNarInfo | null>,
    audience: string | null = null,
  ): Promise<RenderedNarInfo | null> {
    for (const running of this.#flights.get(key) ?? []) {
      if (running.audience === audience && !running.stale) return running.value;
    }
    const flight: Flight = { audience, value: lookUp(), stale: false };
    this.#flights.set(key, (this.#flights.get(key) ?? new Set()).add(flight));
    flight.value.then(
      (value) => {
        if (value && !flight.stale) this.#put(key, value);
        this.#land(key, flight);
      },
      () => this.#land(key, flight),
    );
    return flight.value;
  }

  forget(key: string): void {
    this.#entries.delete(key);
    for (const flight of this.#flights.get(key) ?? []) flight.stale = true;
  }

  /** Everything whose key starts so. Walks all entries: for what happens rarely. */
  forgetAll(prefix: string): void {
    for (const key of [...this.#entries.keys(), ...this.#flights.keys()]) if (key.startsWith(prefix)) this.forget(key);
  }

  #put(key: string, { text, etag, contentLength }: RenderedNarInfo): void {
    this.#entries.set(key, { text, etag, contentLength, expiresAt: this.#clock.monotonic() + this.#ageMsMax });
  }

  #land(key: string, flight: Flight): void {
    const flights = this.#flights.get(key);
    flights?.delete(flight);
    if (flights?.size === 0) this.#flights.delete(key);
  }
}

function bytesOf({ text }: Entry): number {
  return ENTRY_BYTES + text.length;
}
