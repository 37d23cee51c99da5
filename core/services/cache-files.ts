import { DomainError } from "../errors.ts";
import { Semaphore } from "../lib/semaphore.ts";
import type { ByteStream } from "../lib/streams.ts";
import { byteStringOfText } from "../nix/byte-string.ts";
import { narEntry } from "../nix/nar-entry.ts";
import { type FoundEntry, findListedEntry, readNarListing } from "../nix/nar-listing.ts";
import { parseStorePathBaseName, STORE_DIR, type StorePath, storePathBaseName } from "../nix/store-path.ts";
import type { Nar } from "./nar.ts";
import { type EntryBody, entryBody } from "./nar-entry-body.ts";
import type { NarListing, NarListings } from "./nar-listings.ts";
import { type NarTreeDeps, openNarTree } from "./nar-tree.ts";

/** A place in a store path of a cache, and the NAR that is served for the path. */
export interface CachePlace {
  readonly storePath: StorePath;
  readonly nar: Nar;
  readonly names: readonly string[];
}

/**
 * What is at a place. `moved`: a link leads to another place, in the same path or in another one that the cache may
 * have. `unlisted`: the NAR has more in it than is kept about it; opening says what it is.
 */
export type FoundFile =
  | { readonly kind: "file"; readonly names: readonly string[]; readonly size: number }
  | { readonly kind: "folder" | "unlisted"; readonly names: readonly string[] }
  | { readonly kind: "moved"; readonly storePath: StorePath; readonly names: readonly string[] };

export interface CacheFileDeps extends NarTreeDeps {
  readonly listings: NarListings;
}

const INDEX = "index.html";
/** What of a name is not UTF-8 is listed so: no URL can ask for it. */
const NOT_TEXT = "\ufffd";
/** Unpacking up to a file takes a processor; sending it does not, and is not counted. */
const OPENING_MAX = 2;
const WAITING_MAX = 64;
const opening = new Semaphore(OPENING_MAX);

/**
 * Looks into the NAR's listing. In the place of a folder that is asked for as one comes its `index.html`, when there is
 * one. Null when there is nothing there. Throws `service_unavailable` when the listing cannot be made now.
 */
export async function findFile(
  { listings }: CacheFileDeps,
  { storePath, nar, names }: CachePlace,
  { asFolder }: { readonly asFolder: boolean },
): Promise<FoundFile | null> {
  if (names.some((name) => name.includes(NOT_TEXT))) return null;
  const listing = await listings.find(nar);
  if (listing === null) return null;
  if (listing === "too_large") return { kind: "unlisted", names };
  const found = await findListed(listing, names);
  if (found?.entry.kind === "directory" && asFolder) {
    const index = await findListed(listing, [...names, INDEX]);
    if (index?.entry.kind === "file") return { kind: "file", names: [...names, INDEX], size: index.entry.size };
  }
  switch (found?.entry.kind) {
    case "file":
      return asFolder ? null : { kind: "file", names, size: found.entry.size };
    case "directory":
      return { kind: "folder", names };
    case "symlink":
      return followed(storePath, names, found);
    case undefined:
      return null;
  }
}

/**
 * Opens what is at a place; a body that ends is what was stored, whole. Null when nothing is there, or the NAR is gone.
 * Throws `NarDamagedError`, here or in the place of the last piece, and `service_unavailable` when too many wait.
 */
export async function openFile(deps: CacheFileDeps, { storePath, nar, names }: CachePlace): Promise<EntryBody | null> {
  const name = names.at(-1) ?? storePathBaseName(storePath);
  if (opening.waiting >= WAITING_MAX) {
    throw new DomainError("service_unavailable", "Too many files are being unpacked: try again in some seconds");
  }
  return await opening.run(async () => {
    const events = await openNarTree(deps, nar);
    return events && (await entryBody(deps.codec, narEntry(events, names.map(byteStringOfText)), name));
  });
}

async function findListed(listing: NarListing, names: readonly string[]): Promise<FoundEntry | null> {
  return await findListedEntry(readNarListing(textOf(listing.text())), names);
}

async function* textOf(bytes: ByteStream): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  for await (const part of bytes) yield decoder.decode(part, { stream: true });
  yield decoder.decode();
}

/** Where a link leads, without looking at what is there. Null when that is outside the store, or the link itself. */
function followed(storePath: StorePath, asked: readonly string[], { entry, rest }: FoundEntry): FoundFile | null {
  if (entry.kind !== "symlink") return null;
  const folder = [...segmentsOf(storePath), ...asked.slice(0, asked.length - rest.length)].slice(0, -1);
  const from = entry.target.startsWith("/") ? [] : folder;
  const place: string[] = [];
  for (const segment of [...from, ...segmentsOf(entry.target), ...rest]) {
    if (segment === "..") place.pop();
    else if (segment !== ".") place.push(segment);
  }
  const store = segmentsOf(STORE_DIR);
  if (store.some((name, index) => place[index] !== name)) return null;
  const target = parseStorePathBaseName(place[store.length] ?? "");
  const names = place.slice(store.length + 1);
  if (!target || (target === storePath && names.join("/") === asked.join("/"))) return null;
  return { kind: "moved", storePath: target, names };
}

function segmentsOf(path: string): string[] {
  return path.split("/").filter((segment) => segment !== "");
}
