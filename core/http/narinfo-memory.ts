import type { Clock } from "../lib/clock.ts";

/** A narinfo as it goes out. */
export interface RenderedNarInfo {
  readonly text: string;
  readonly etag: string;
  /** In bytes; a narinfo is ASCII. */
  readonly contentLength: string;
}

export interface NarInfoMemoryLimits {
  readonly entriesMax: number;
  readonly bytesMax: number;
  /** How long a lost wake-up can go unnoticed. */
  readonly ageMsMax: number;
}

/** 64 MiB hold about 60 000 narinfos of 600 bytes. */
export const NARINFO_MEMORY_LIMITS: NarInfoMemoryLimits = {
  entriesMax: 100_000,
  bytesMax: 64 * 1024 * 1024,
  ageMsMax: 60_000,
};

/** Of a map's entry, its key, two strings' heads and the ETag, measured as heap growth on a 64-bit runtime. */
const ENTRY_BYTES = 480;

interface Entry {
  readonly value: RenderedNarInfo;
  readonly bytes: number;
  readonly expiresAt: number;
}

interface Flight {
  readonly audience: string | null;
  readonly value: Promise<RenderedNarInfo | null>;
  /** The path changed while it was looked up: what was read may be from before. */
  stale: boolean;
}

interface Generation {
  readonly entries: Map<string, Entry>;
  bytes: number;
}

/**
 * The narinfos used last, by `cache id/hash`. Only what exists is kept: a path that is pushed is there at once.
 *
 * Entries are in two generations, each of half the size. A new one, or an old one that is asked for, goes to the young
 * generation; when that is full it becomes the old one, and what was old goes. So an entry that is hot is only looked
 * up: to move it to the end of one map at each use would cost the 39 µs that such a map of 20 000 entries takes for it.
 */
export class NarInfoMemory {
  readonly #clock: Clock;
  readonly #limits: NarInfoMemoryLimits;
  #young: Generation = { entries: new Map(), bytes: 0 };
  #old: Generation = { entries: new Map(), bytes: 0 };
  readonly #flights = new Map<string, Set<Flight>>();

  constructor(clock: Clock, limits: NarInfoMemoryLimits = NARINFO_MEMORY_LIMITS) {
    this.#clock = clock;
    this.#limits = limits;
  }

  get size(): number {
    return this.#young.entries.size + this.#old.entries.size;
  }

  get(key: string): RenderedNarInfo | undefined {
    const entry = this.#young.entries.get(key) ?? this.#renew(key);
    return entry && entry.expiresAt > this.#clock.monotonic() ? entry.value : undefined;
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
    remove(this.#young, key);
    remove(this.#old, key);
    for (const flight of this.#flights.get(key) ?? []) flight.stale = true;
  }

  /** Everything whose key starts so. Walks all entries: for what happens rarely. */
  forgetAll(prefix: string): void {
    const keys = [this.#young.entries, this.#old.entries, this.#flights].flatMap((map) => [...map.keys()]);
    for (const key of keys) if (key.startsWith(prefix)) this.forget(key);
  }

  #put(key: string, value: RenderedNarInfo): void {
    const entry = {
      value,
      bytes: ENTRY_BYTES + value.text.length,
      expiresAt: this.#clock.monotonic() + this.#limits.ageMsMax,
    };
    remove(this.#old, key);
    this.#add(key, entry);
  }

  #renew(key: string): Entry | undefined {
    const entry = this.#old.entries.get(key);
    if (!entry) return undefined;
    remove(this.#old, key);
    this.#add(key, entry);
    return entry;
  }

  #add(key: string, entry: Entry): void {
    const { entriesMax, bytesMax } = this.#limits;
    if (entry.bytes > bytesMax / 2) return;
    remove(this.#young, key);
    if (this.#young.entries.size + 1 > entriesMax / 2 || this.#young.bytes + entry.bytes > bytesMax / 2) {
      this.#old = this.#young;
      this.#young = { entries: new Map(), bytes: 0 };
    }
    this.#young.entries.set(key, entry);
    this.#young.bytes += entry.bytes;
  }

  #land(key: string, flight: Flight): void {
    const flights = this.#flights.get(key);
    flights?.delete(flight);
    if (flights?.size === 0) this.#flights.delete(key);
  }
}

function remove(generation: Generation, key: string): void {
  const entry = generation.entries.get(key);
  if (!entry) return;
  generation.entries.delete(key);
  generation.bytes -= entry.bytes;
}
