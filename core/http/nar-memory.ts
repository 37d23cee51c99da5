import { ownText } from "../lib/bytes.ts";
import { type Clock, SECOND } from "../lib/clock.ts";
import { RecentMap } from "../lib/recent-map.ts";
import { NarInfoParseError, parseNarInfo } from "../nix/narinfo.ts";
import { storePathHash } from "../nix/store-path.ts";
import type { ServedNar } from "../services/cache-lookup.ts";
import { NARINFO_MEMORY_LIMITS, type NarInfoMemoryLimits } from "./narinfo-memory.ts";
import { PathChanges } from "./path-changes.ts";

/** Of a map's entry, its key, the NAR's hashes, texts and its file's place, measured as for narinfos. */
const ENTRY_BYTES = 1_300;
/** Of one that nobody asked for yet, beside its narinfo's text. */
const UNREAD_BYTES = 410;
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

/** What a narinfo says of its NAR, which is read when somebody asks for that. */
export interface UnreadNar {
  readonly narInfo: string;
  readonly objectKey: string;
}

interface UnreadEntry extends UnreadNar {
  readonly expiresAt: number;
  readonly generation: number;
}

/** A file name of a cache, which need not be the one that the file has now. */
export interface NarAsked {
  readonly cacheId: string;
  readonly name: string;
}

/**
 * The NARs asked for last, and those whose narinfos were, by `cache id/file hash`, with the bytes of small ones. Each
 * is forgotten with the path that its cache serves it for, as a narinfo is.
 */
export class NarMemory {
  readonly #clock: Clock;
  readonly #ageMsMax: number;
  readonly #entries: RecentMap<Entry | UnreadEntry>;
  readonly #changes = new PathChanges();

  constructor(clock: Clock, limits: NarInfoMemoryLimits = NARINFO_MEMORY_LIMITS) {
    this.#clock = clock;
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

  /** Of a NAR whose file has this name now. What was known of it stays, while it is as it was. */
  putUnread(asked: NarAsked, { narInfo, objectKey }: UnreadNar, generation: number): void {
    const key = keyOf(asked);
    const known = this.#entries.peek(key);
    if (known && ("nar" in known ? this.#find(asked) : known.generation > generation)) return;
    this.#entries.set(key, { narInfo, objectKey, expiresAt: this.#expiresAt(), generation });
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
    const found = this.#entries.get(key);
    const entry = found && found.expiresAt > this.#clock.monotonic() ? read(found, asked.name) : null;
    if (!entry || this.#isChanged(asked.cacheId, entry, entry.generation)) {
      this.#entries.delete(key);
      return undefined;
    }
    entry.generation = this.generation;
    if (entry !== found) this.#entries.set(key, entry);
    return entry;
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
function read(entry: Entry | UnreadEntry, name: string): Entry | null {
  if ("nar" in entry) return entry;
  const { narInfo, objectKey, expiresAt, generation } = entry;
  try {
    const { storePath, narHash, narSize, fileHash, fileSize, compression } = parseNarInfo(narInfo);
    if (fileHash === null || fileSize === null) return null;
    const nar = { narHash, narSize, fileHash, fileSize, compression, objectKey };
    const pathHash = ownText(storePathHash(storePath));
    return { nar, pathHash, file: null, name, expiresAt, place: null, generation };
  } catch (error) {
    if (error instanceof NarInfoParseError) return null;
    throw error;
  }
}

function bytesOf(entry: Entry | UnreadEntry): number {
  return "nar" in entry ? ENTRY_BYTES + (entry.file?.length ?? 0) : UNREAD_BYTES + entry.narInfo.length;
}
