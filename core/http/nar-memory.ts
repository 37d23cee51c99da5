import { ownText } from "../lib/bytes.ts";
import { type Clock, MINUTE, SECOND } from "../lib/clock.ts";
import { RecentMap, type RecentMapLimits } from "../lib/recent-map.ts";
import { NarInfoParseError, parseNarInfo } from "../nix/narinfo.ts";
import { storePathHash } from "../nix/store-path.ts";
import type { ServedNar } from "../services/cache-lookup.ts";
import type { NarHint, NarInfoMemory } from "./narinfo-memory.ts";
import { PathChanges } from "./path-changes.ts";

export interface NarMemoryLimits extends RecentMapLimits {
  /** How long a lost wake-up can go unnoticed. */
  readonly ageMsMax: number;
}

export const NAR_MEMORY_LIMITS: NarMemoryLimits = {
  entriesMax: 100_000,
  bytesMax: 64 * 1024 * 1024,
  ageMsMax: MINUTE,
};

/** Of a map's entry, its key, the NAR's hashes, texts and its file's place: the heap's growth on a 64-bit runtime. */
const ENTRY_BYTES = 1_300;
/** How long a file is not looked for again: nginx keeps it open for as long, and remembers its place for a second. */
const PLACE_MS_MAX: number = 10 * SECOND;

/** What a surface knows of one file name of one cache. */
export interface KnownNar extends ServedNar {
  /** The hash that its file has now. One that was stored anew is also known by the hash from before. */
  readonly name: string;
  /** The whole file, proven; null until it was read, or where it is large. */
  readonly file: Uint8Array | null;
}

interface Entry extends KnownNar {
  readonly expiresAt: number;
  /** The path is as it was then. */
  generation: number;
  /** Where the proxy before us finds its file, which was there a moment ago. */
  place: { readonly path: string; readonly expiresAt: number } | null;
}

/** A file name of a cache, which need not be the one that the file has now. */
export interface NarAsked {
  readonly cacheId: string;
  readonly name: string;
}

/**
 * The NARs asked for last, by `cache id/file hash`, with the bytes of small ones, and those whose narinfos are known.
 * Each is forgotten with the path that its cache serves it for, as a narinfo is.
 */
export class NarMemory {
  readonly #clock: Clock;
  readonly #ageMsMax: number;
  readonly #narInfos: Pick<NarInfoMemory, "ofNar">;
  readonly #entries: RecentMap<Entry>;
  readonly #changes = new PathChanges();

  constructor(clock: Clock, narInfos: Pick<NarInfoMemory, "ofNar">, limits: NarMemoryLimits = NAR_MEMORY_LIMITS) {
    this.#clock = clock;
    this.#narInfos = narInfos;
    this.#ageMsMax = limits.ageMsMax;
    this.#entries = new RecentMap(limits, bytesOf);
  }

  /** To be taken before what is put was looked up: with its path forgotten meanwhile it may be from before. */
  get generation(): number {
    return this.#changes.generation;
  }

  get(cacheId: string, name: string): KnownNar | undefined {
    return this.#find({ cacheId, name });
  }

  /** The path where the proxy before us finds its file; null unless it was found there a moment ago. */
  pathOf(cacheId: string, name: string): string | null {
    const place = this.#find({ cacheId, name })?.place;
    return place && place.expiresAt > this.#clock.monotonic() ? place.path : null;
  }

  setPath(asked: NarAsked, path: string, generation: number): void {
    const entry = this.#find(asked);
    if (!entry || this.#isChanged(asked.cacheId, entry, generation)) return;
    entry.place = { path, expiresAt: this.#clock.monotonic() + PLACE_MS_MAX };
  }

  put(asked: NarAsked, { nar, pathHash, file, name }: KnownNar, generation: number): void {
    if (this.#isChanged(asked.cacheId, { pathHash }, generation)) return;
    const before = this.#find(asked);
    const expiresAt = before?.expiresAt ?? this.#expiresAt();
    const place = before?.place ?? null;
    const entry = { nar, pathHash, file, name, expiresAt, place, generation: this.generation };
    this.#entries.set(keyOf(asked), entry);
  }

  forget(pathKey: string): void {
    this.#changes.add(pathKey);
  }

  /** Everything of one cache, by its id and a slash, or of all by an empty string. */
  forgetAll(prefix: string): void {
    this.#changes.add(prefix);
  }

  #find(asked: NarAsked): Entry | undefined {
    const key = keyOf(asked);
    const known = this.#entries.get(key);
    if (known && this.#holds(asked, known)) return known;
    this.#entries.delete(key);
    const hint = this.#narInfos.ofNar(asked.cacheId, asked.name);
    const entry = hint && read(hint, asked.name);
    if (!entry || !this.#holds(asked, entry)) return undefined;
    this.#entries.set(key, entry);
    return entry;
  }

  #holds({ cacheId }: NarAsked, entry: Entry): boolean {
    if (entry.expiresAt <= this.#clock.monotonic() || this.#isChanged(cacheId, entry, entry.generation)) return false;
    entry.generation = this.generation;
    return true;
  }

  #isChanged(cacheId: string, { pathHash }: Pick<KnownNar, "pathHash">, generation: number): boolean {
    return this.#changes.areSince(`${cacheId}/${pathHash}`, generation);
  }

  #expiresAt(): number {
    return this.#clock.monotonic() + this.#ageMsMax;
  }
}

function keyOf({ cacheId, name }: NarAsked): string {
  return `${cacheId}/${name}`;
}

/** Null for a narinfo that cannot be read: what older versions took may be in one. */
function read({ narInfo, objectKey, expiresAt, generation }: NarHint, name: string): Entry | null {
  try {
    const { storePath, narHash, narSize, fileHash, fileSize, compression } = parseNarInfo(narInfo);
    if (fileHash === null || fileSize === null) return null;
    // A part of the text would keep all of it.
    const nar = { narHash, narSize, fileHash, fileSize, compression, objectKey: ownText(objectKey) };
    return { nar, pathHash: ownText(storePathHash(storePath)), file: null, name, expiresAt, place: null, generation };
  } catch (error) {
    if (error instanceof NarInfoParseError) return null;
    throw error;
  }
}

function bytesOf({ file }: Entry): number {
  return ENTRY_BYTES + (file?.length ?? 0);
}
