import { type Clock, SECOND } from "../lib/clock.ts";
import type { ServedNar } from "../services/cache-lookup.ts";
import { NARINFO_MEMORY_LIMITS, type NarInfoMemoryLimits } from "./narinfo-memory.ts";

/** Of two maps' entries, their keys, the NAR's hashes, texts and its file's place, measured as for narinfos. */
const ENTRY_BYTES = 1_650;
/** What became of paths while a NAR was looked up is told for as many: a closure that is pushed meanwhile, or two. */
const FORGOTTEN_KEPT = 1_000;
/** How long a file is not looked for again: nginx keeps it open for as long, and remembers its place for a second. */
const PLACE_MS_MAX: number = 10 * SECOND;

interface Entry extends ServedNar {
  /** The hash that its file has now. One that was stored anew is also known by the hash from before. */
  readonly name: string;
  /** The whole file, proven; null until it was read, or where it is large. */
  readonly file: Uint8Array | null;
  /** Where the proxy before us finds its file, which was there a moment ago. */
  readonly place: { readonly path: string; readonly expiresAt: number } | null;
  readonly expiresAt: number;
}

/** What a surface knows of one file name of one cache. */
export type KnownNar = Pick<Entry, "nar" | "pathHash" | "file" | "name">;

/** A file name of a cache, which need not be the one that the file has now. */
export interface NarAsked {
  readonly cacheId: string;
  readonly name: string;
}

/**
 * The NARs asked for last, by `cache id/file hash`, with the bytes of small ones. Each is forgotten with the path that
 * its cache serves it for, as a narinfo is.
 */
export class NarMemory {
  readonly #clock: Clock;
  readonly #limits: NarInfoMemoryLimits;
  /** In order of use, the oldest first. */
  readonly #entries = new Map<string, Entry>();
  /** By `cache id/path hash`. */
  readonly #names = new Map<string, Set<string>>();
  #bytes = 0;
  #forgotten = 0;
  /** The subjects forgotten last, each at its number modulo `FORGOTTEN_KEPT`. */
  readonly #lastForgotten: string[] = [];

  constructor(clock: Clock, limits: NarInfoMemoryLimits = NARINFO_MEMORY_LIMITS) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** To be taken before what is put was looked up: with its path forgotten meanwhile it may be from before. */
  get generation(): number {
    return this.#forgotten;
  }

  get(cacheId: string, name: string): KnownNar | undefined {
    const key = `${cacheId}/${name}`;
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    if (entry.expiresAt <= this.#clock.monotonic()) {
      this.#remove(key);
      return undefined;
    }
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  /** The path where the proxy before us finds its file; null unless it was found there a moment ago. */
  pathOf(cacheId: string, name: string): string | null {
    const place = this.#entries.get(`${cacheId}/${name}`)?.place;
    return place && place.expiresAt > this.#clock.monotonic() ? place.path : null;
  }

  setPath({ cacheId, name }: NarAsked, path: string, generation: number): void {
    const key = `${cacheId}/${name}`;
    const entry = this.#entries.get(key);
    if (!entry || this.#wasForgotten(pathKeyOf(cacheId, entry), generation)) return;
    this.#entries.set(key, { ...entry, place: { path, expiresAt: this.#clock.monotonic() + PLACE_MS_MAX } });
  }

  put(asked: NarAsked, known: KnownNar, generation: number): void {
    const pathKey = pathKeyOf(asked.cacheId, known);
    if (this.#wasForgotten(pathKey, generation)) return;
    const key = `${asked.cacheId}/${asked.name}`;
    const before = this.#entries.get(key);
    const expiresAt = before?.expiresAt ?? this.#clock.monotonic() + this.#limits.ageMsMax;
    this.#remove(key);
    this.#entries.set(key, { ...known, place: before?.place ?? null, expiresAt });
    this.#bytes += bytesOf(known);
    this.#names.set(pathKey, (this.#names.get(pathKey) ?? new Set()).add(key));
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#limits.entriesMax && this.#bytes <= this.#limits.bytesMax) break;
      this.#remove(oldest);
    }
  }

  forget(pathKey: string): void {
    this.#remember(pathKey);
    for (const key of this.#names.get(pathKey) ?? []) this.#remove(key);
  }

  /** Everything of one cache, by its id and a slash, or of all by an empty string. */
  forgetAll(prefix: string): void {
    this.#remember(prefix);
    for (const key of [...this.#entries.keys()]) if (key.startsWith(prefix)) this.#remove(key);
  }

  #remember(subject: string): void {
    this.#lastForgotten[this.#forgotten++ % FORGOTTEN_KEPT] = subject;
  }

  /** Since that generation, as far as is known. */
  #wasForgotten(pathKey: string, generation: number): boolean {
    if (this.#forgotten - generation > FORGOTTEN_KEPT) return true;
    for (let i = generation; i < this.#forgotten; i++) {
      const subject = this.#lastForgotten[i % FORGOTTEN_KEPT] as string;
      const isPrefix = subject === "" || subject.endsWith("/");
      if (isPrefix ? pathKey.startsWith(subject) : pathKey === subject) return true;
    }
    return false;
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#bytes -= bytesOf(entry);
    const pathKey = key.slice(0, key.indexOf("/") + 1) + entry.pathHash;
    const names = this.#names.get(pathKey);
    names?.delete(key);
    if (names?.size === 0) this.#names.delete(pathKey);
  }
}

function pathKeyOf(cacheId: string, { pathHash }: Pick<KnownNar, "pathHash">): string {
  return `${cacheId}/${pathHash}`;
}

function bytesOf({ file }: KnownNar): number {
  return ENTRY_BYTES + (file?.length ?? 0);
}
