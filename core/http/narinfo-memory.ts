import { type Clock, MINUTE } from "../lib/clock.ts";
import { RecentTexts, type RecentTextsLimits } from "../lib/recent-texts.ts";

/** A narinfo as it goes out. */
export interface RenderedNarInfo {
  /** ASCII. */
  readonly text: string;
  readonly etag: string;
  /** In bytes. */
  readonly contentLength: string;
}

/** What the row that a narinfo is made of says of its NAR beside that. */
export interface NarOfNarInfo {
  /** The name of the NAR's file, without its ending. */
  readonly name: string;
  readonly objectKey: string;
  /** `NarMemory.generation` from before the row was read. */
  readonly generation: number;
}

export interface FreshNarInfo extends RenderedNarInfo {
  /** Null for one of an upstream. */
  readonly nar: NarOfNarInfo | null;
}

/** What is known of a NAR by its narinfo. */
export interface NarHint extends Omit<NarOfNarInfo, "name"> {
  readonly narInfo: string;
  readonly expiresAt: number;
}

export interface NarInfoMemoryLimits extends RecentTextsLimits {
  /** How long a lost wake-up can go unnoticed. */
  readonly ageMsMax: number;
}

/** 64 MiB hold 70 000 narinfos of 600 bytes at the most, and half of as many that were used last for certain. */
export const NARINFO_MEMORY_LIMITS: NarInfoMemoryLimits = {
  // Of a narinfo there are up to 2 MiB.
  blockBytes: 4 * 1024 * 1024,
  blocksMax: 16,
  ageMsMax: MINUTE,
};

interface Flight {
  readonly audience: string | null;
  readonly value: Promise<FreshNarInfo | null>;
  /** The path changed while it was looked up: what was read may be from before. */
  stale: boolean;
}

/**
 * The narinfos used last, by `cache id/hash` and by `cache id/file hash` of their NARs. Only what exists is kept: a
 * path that is pushed is there at once.
 */
export class NarInfoMemory {
  readonly #clock: Clock;
  readonly #ageMsMax: number;
  readonly #texts: RecentTexts;
  readonly #flights = new Map<string, Set<Flight>>();

  constructor(clock: Clock, limits: NarInfoMemoryLimits = NARINFO_MEMORY_LIMITS) {
    this.#clock = clock;
    this.#ageMsMax = limits.ageMsMax;
    this.#texts = new RecentTexts(limits);
  }

  get size(): number {
    return this.#texts.size;
  }

  get(key: string): RenderedNarInfo | undefined {
    const kept = this.#texts.get(key, this.#clock.monotonic());
    return kept && parseRecord(kept.text).narInfo;
  }

  /** What the narinfo told of the NAR whose file has this name in the cache. */
  ofNar(cacheId: string, name: string): NarHint | undefined {
    const kept = this.#texts.getByAlias(`${cacheId}/${name}`, this.#clock.monotonic());
    if (!kept) return undefined;
    const { narInfo, objectKey, generation } = parseRecord(kept.text);
    return { narInfo: narInfo.text, objectKey, generation: Number(generation), expiresAt: kept.expiresAt };
  }

  /**
   * Looks up once for everybody of one audience who asks at the same time, and keeps what was found unless it changed
   * meanwhile. Audiences do not wait for each other: the look-up of one may rest on the answer to another.
   */
  load(
    key: string,
    lookUp: () => Promise<FreshNarInfo | null>,
    audience: string | null = null,
  ): Promise<FreshNarInfo | null> {
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
    this.#texts.delete(key);
    for (const flight of this.#flights.get(key) ?? []) flight.stale = true;
  }

  /** Everything whose key starts so. Walks all entries: for what happens rarely. */
  forgetAll(prefix: string): void {
    this.#texts.deleteAll(prefix);
    for (const key of this.#flights.keys()) if (key.startsWith(prefix)) this.forget(key);
  }

  #put(key: string, narInfo: FreshNarInfo): void {
    const { nar } = narInfo;
    const cache = key.slice(0, key.indexOf("/") + 1);
    const expiresAt = this.#clock.monotonic() + this.#ageMsMax;
    this.#texts.set({ key, alias: nar ? cache + nar.name : "", text: printRecord(narInfo), expiresAt });
  }

  #land(key: string, flight: Flight): void {
    const flights = this.#flights.get(key);
    flights?.delete(flight);
    if (flights?.size === 0) this.#flights.delete(key);
  }
}

/** ETag, generation and object key in a line each, then the narinfo. */
function printRecord({ etag, nar, text }: FreshNarInfo): string {
  return `${etag}\n${nar?.generation ?? ""}\n${nar?.objectKey ?? ""}\n${text}`;
}

function parseRecord(record: string): {
  readonly narInfo: RenderedNarInfo;
  readonly generation: string;
  readonly objectKey: string;
} {
  const etag = record.indexOf("\n");
  const generation = record.indexOf("\n", etag + 1);
  const objectKey = record.indexOf("\n", generation + 1);
  const text = record.slice(objectKey + 1);
  return {
    narInfo: { text, etag: record.slice(0, etag), contentLength: String(text.length) },
    generation: record.slice(etag + 1, generation),
    objectKey: record.slice(generation + 1, objectKey),
  };
}
