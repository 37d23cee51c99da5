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
  readonly value: Promise<RenderedNarInfo | null>;
  /** The path changed while it was looked up: what was read may be from before. */
  stale: boolean;
}

/** The narinfos used last, by `cache id/hash`. Only what exists is kept: a path that is pushed is there at once. */
export class NarInfoMemory {
  readonly #clock: Clock;
  readonly #limits: NarInfoMemoryLimits;
  /** In order of use, the oldest first. */
  readonly #entries = new Map<string, Entry>();
  readonly #flights = new Map<string, Flight>();
  #bytes = 0;

  constructor(clock: Clock, limits: NarInfoMemoryLimits = NARINFO_MEMORY_LIMITS) {
    this.#clock = clock;
    this.#limits = limits;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): RenderedNarInfo | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    this.#entries.delete(key);
    if (entry.expiresAt <= this.#clock.monotonic()) {
      this.#bytes -= entry.bytes;
      return undefined;
    }
    this.#entries.set(key, entry);
    return entry.value;
  }

  /** Looks up once for everybody who asks at the same time, and keeps what was found unless it changed meanwhile. */
  load(key: string, lookUp: () => Promise<RenderedNarInfo | null>): Promise<RenderedNarInfo | null> {
    const running = this.#flights.get(key);
    if (running && !running.stale) return running.value;
    const flight: Flight = { value: lookUp(), stale: false };
    this.#flights.set(key, flight);
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
    this.#remove(key);
    const flight = this.#flights.get(key);
    if (flight) flight.stale = true;
  }

  /** Everything whose key starts so. Walks all entries: for what happens rarely. */
  forgetAll(prefix: string): void {
    for (const key of [...this.#entries.keys(), ...this.#flights.keys()]) if (key.startsWith(prefix)) this.forget(key);
  }

  #put(key: string, value: RenderedNarInfo): void {
    const bytes = ENTRY_BYTES + value.text.length;
    if (bytes > this.#limits.bytesMax) return;
    this.#remove(key);
    this.#entries.set(key, { value, bytes, expiresAt: this.#clock.monotonic() + this.#limits.ageMsMax });
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#limits.entriesMax && this.#bytes <= this.#limits.bytesMax) break;
      this.#remove(oldest);
    }
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }

  #land(key: string, flight: Flight): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }
}
