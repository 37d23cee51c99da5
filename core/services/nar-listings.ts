import { findNarListing, insertNarListing, type ListingRow, readNarListingPart } from "../db/nar-listings.ts";
import { DomainError } from "../errors.ts";
import { type Bytes, concatBytes, fromHex, toHex, utf8 } from "../lib/bytes.ts";
import { gunzip, gzip } from "../lib/compression.ts";
import { Semaphore } from "../lib/semaphore.ts";
import type { ByteStream } from "../lib/streams.ts";
import { BuildIdFinder } from "../nix/debug-info.ts";
import type { NarEvent } from "../nix/nar.ts";
import { NarListingPrinter } from "../nix/nar-listing.ts";
import type { Nar } from "./nar.ts";
import { NarDamagedError } from "./nar-open.ts";
import { type NarTreeDeps, openNarTree } from "./nar-tree.ts";

/** What is in a NAR, as JSON. The streams read it anew each time, in bounded parts. */
export interface NarListing {
  readonly textBytes: number;
  readonly gzipBytes: number;
  gzip(): ByteStream;
  text(): ByteStream;
}

/** `too_large`: nothing so large is kept. Null: the NAR is not there any more. */
export type FoundListing = NarListing | "too_large" | null;

export interface NarListingLimits {
  readonly textBytesMax: number;
  readonly gzipBytesMax: number;
}

/** 400 000 files with names of 18 characters take 27 MB and 2.5 MB of gzip. */
export const NAR_LISTING_LIMITS: NarListingLimits = {
  textBytesMax: 64 * 1024 * 1024,
  gzipBytesMax: 4 * 1024 * 1024,
};

/** Most listings are one part. */
const PART_BYTES = 256 * 1024;
/** Unpacking takes a processor. */
const MAKING_MAX = 2;
const WAITING_MAX = 64;
/** A text is handed to the compression in pieces of about this length. */
const PIECE_LENGTH = 16 * 1024;
/** The debug output of a whole system has some thousand. */
const BUILD_IDS_MAX = 20_000;

/**
 * Listings of stored NARs. One is made when it is first asked for, by unpacking the NAR once, and kept in the database:
 * it never changes, and goes with the NAR.
 */
export class NarListings {
  readonly #deps: NarTreeDeps;
  readonly #limits: NarListingLimits;
  readonly #making = new Map<string, Promise<void>>();
  readonly #places = new Semaphore(MAKING_MAX);

  constructor(deps: NarTreeDeps, limits: NarListingLimits = NAR_LISTING_LIMITS) {
    this.#deps = deps;
    this.#limits = limits;
  }

  /** Throws `service_unavailable` when too many are being made now. */
  async find(nar: Nar): Promise<FoundListing> {
    const known = await this.#read(nar);
    if (known !== undefined) return known;
    try {
      await this.#makeOnce(nar);
    } catch (error) {
      if (error instanceof NarDamagedError) return null;
      throw error;
    }
    return (await this.#read(nar)) ?? null;
  }

  /** Undefined when it was not made yet. */
  async #read(nar: Nar): Promise<FoundListing | undefined> {
    const row = await findNarListing(this.#deps.db, nar.narHash.digest, PART_BYTES);
    if (!row) return undefined;
    const { text_bytes: textBytes, gzip_bytes: gzipBytes, head } = row;
    if (gzipBytes === null || head === null) return "too_large";
    const stored = () => this.#parts(nar, { gzipBytes, head });
    return { textBytes, gzipBytes, gzip: stored, text: () => gunzip(stored()) };
  }

  async *#parts(
    nar: Nar,
    { gzipBytes, head }: { readonly gzipBytes: number; readonly head: NonNullable<ListingRow["head"]> },
  ): AsyncGenerator<Uint8Array> {
    let part: Uint8Array | undefined = head;
    for (let start = 0; start < gzipBytes; start += part.length) {
      const range = { start, length: PART_BYTES };
      if (start > 0) part = await readNarListingPart(this.#deps.db, nar.narHash.digest, range);
      if (!part?.length) throw new Error(`the listing of ${nar.objectKey} went while it was read`);
      yield part;
    }
  }

  #makeOnce(nar: Nar): Promise<void> {
    const key = toHex(nar.narHash.digest);
    const running = this.#making.get(key);
    if (running) return running;
    if (this.#making.size >= WAITING_MAX) {
      throw new DomainError("service_unavailable", "Too many listings are being made: try again in some seconds");
    }
    const making = this.#places.run(() => this.#make(nar)).finally(() => this.#making.delete(key));
    this.#making.set(key, making);
    return making;
  }

  async #make(nar: Nar): Promise<void> {
    const events = await openNarTree(this.#deps, nar);
    if (!events) throw new NarDamagedError(`the object ${nar.objectKey} is missing`);
    const finder = new BuildIdFinder(BUILD_IDS_MAX);
    const text = new ListingText(events, finder, this.#limits.textBytesMax);
    const data = await this.#collect(gzip(text.pieces()));
    await insertNarListing(this.#deps.db, {
      narHash: nar.narHash.digest,
      data,
      textBytes: text.bytes,
      buildIds: data ? [...new Set(finder.found)].map((id) => fromHex(id) as Bytes) : [],
    });
  }

  /** Null when it is too large. */
  async #collect(data: ByteStream): Promise<Bytes | null> {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    try {
      for await (const part of data) {
        bytes += part.length;
        if (bytes > this.#limits.gzipBytesMax) return null;
        parts.push(part);
      }
    } catch (error) {
      if (error instanceof ListingTooLargeError) return null;
      throw error;
    }
    return concatBytes(parts);
  }
}

class ListingTooLargeError extends Error {}

class ListingText {
  bytes = 0;
  readonly #events: AsyncIterable<NarEvent>;
  readonly #finder: BuildIdFinder;
  readonly #bytesMax: number;

  constructor(events: AsyncIterable<NarEvent>, finder: BuildIdFinder, bytesMax: number) {
    this.#events = events;
    this.#finder = finder;
    this.#bytesMax = bytesMax;
  }

  async *pieces(): AsyncGenerator<Uint8Array> {
    const printer = new NarListingPrinter();
    let text = "";
    for await (const event of this.#events) {
      this.#finder.take(event);
      text += printer.print(event);
      if (text.length < PIECE_LENGTH) continue;
      yield this.#piece(text);
      text = "";
    }
    yield this.#piece(text);
  }

  #piece(text: string): Uint8Array {
    const piece = utf8(text);
    this.bytes += piece.length;
    if (this.bytes > this.#bytesMax) throw new ListingTooLargeError();
    return piece;
  }
}
