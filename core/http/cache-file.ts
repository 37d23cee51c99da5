import { utf8 } from "../lib/bytes.ts";
import type { ByteStream } from "../lib/streams.ts";
import { encodeBase32 } from "../nix/base32.ts";
import { sha256 } from "../nix/hash.ts";
import { storePathBaseName, storePathHash } from "../nix/store-path.ts";
import type { ByteRange } from "../ports/blob-store.ts";
import { type CacheFileDeps, type CachePlace, type FoundFile, findFile, openFile } from "../services/cache-files.ts";
import { type CacheLookupDeps, lookUpPath, type ServedCache } from "../services/cache-lookup.ts";
import type { PathUses } from "../services/cache-uses.ts";
import type { EntryBody } from "../services/nar-entry-body.ts";
import { isNarStored, NarDamagedError } from "../services/nar-open.ts";
import { answerBytes, readable } from "./byte-answer.ts";
import * as answer from "./cache-answers.ts";
import type { FilePath } from "./cache-route.ts";
import { contentTypeOf } from "./content-type.ts";
import { downloadHeaders } from "./download-headers.ts";

export interface CacheServeDeps extends CacheLookupDeps, CacheFileDeps {
  readonly uses: Pick<PathUses, "touch">;
}

export interface FileRequest {
  readonly request: Request;
  readonly cache: ServedCache;
  readonly hash: string;
  readonly file: FilePath;
}

/**
 * One file of a path, or a folder as `<name>.tar.zst`; a folder with a slash behind it is its `index.html`, where it
 * has one. A link is a redirect to where it leads, in this path or another one. What users made runs nowhere: the page
 * that shows it has no origin, no scripts and no forms.
 */
export async function answerFile(deps: CacheServeDeps, { request, cache, hash, file }: FileRequest): Promise<Response> {
  const path = await lookUpPath(deps, { cacheId: cache.id, hash });
  if (!path) return answer.notFound();
  const found = await findFile(deps, { ...path, names: file.names }, file);
  if (!found) return answer.notFound();
  deps.uses.touch(`${cache.id}/${hash}`);
  if (found.kind === "moved") return moved(cache, found, file);
  const place = { ...path, names: found.names };
  if (found.kind !== "file") return await opened(deps, { request, cache, place });
  return (await wholeFile(deps, { request, cache, place, size: found.size })) ?? answer.notFound();
}

interface PlaceRequest {
  readonly request: Request;
  readonly cache: ServedCache;
  readonly place: CachePlace;
}

async function wholeFile(
  deps: CacheServeDeps,
  { request, cache, place, size }: PlaceRequest & { readonly size: number },
): Promise<Response | null> {
  const digest = await sha256(utf8(`${encodeBase32(place.nar.narHash.digest)}/${place.names.join("/")}`));
  return await answerBytes(request, {
    size,
    etag: `"${encodeBase32(digest)}"`,
    cacheControl: answer.shortCacheControl(cache),
    headers: { ...answer.USER_MADE, "content-type": contentTypeOf(nameOf(place)) },
    resumable: true,
    isThere: () => isNarStored(deps, place.nar),
    open: async (range) => {
      const entry = await openFile(deps, place);
      return entry && (range ? partOf(entry.body, range) : entry.body);
    },
    isLost: (error) => error instanceof NarDamagedError,
  });
}

/** What is known only when it is open. */
async function opened(deps: CacheServeDeps, { request, cache, place }: PlaceRequest): Promise<Response> {
  const entry = await soundEntry(deps, place);
  if (!entry) return answer.notFound();
  const isArchive = entry.kind === "archive";
  const fileName = isArchive ? `${nameOf(place)}.tar.zst` : nameOf(place);
  const headers = {
    ...(isArchive
      ? downloadHeaders({ fileName, subtype: "", size: null })
      : { ...answer.USER_MADE, "content-type": contentTypeOf(fileName), "content-length": String(entry.size) }),
    "cache-control": answer.shortCacheControl(cache),
  };
  if (request.method !== "HEAD") return new Response(await readable(entry.body), { headers });
  await entry.discard();
  return new Response(null, { headers });
}

async function soundEntry(deps: CacheServeDeps, place: CachePlace): Promise<EntryBody | null> {
  try {
    return await openFile(deps, place);
  } catch (error) {
    if (error instanceof NarDamagedError) return null;
    throw error;
  }
}

function moved(
  cache: ServedCache,
  { storePath, names }: FoundFile & { readonly kind: "moved" },
  { asFolder }: FilePath,
): Response {
  const place = ["", "cache", cache.name, "serve", storePathHash(storePath), ...names.map(encodeURIComponent)].join(
    "/",
  );
  return new Response(null, {
    status: 307,
    headers: { location: asFolder ? `${place}/` : place, "cache-control": answer.shortCacheControl(cache) },
  });
}

function nameOf({ storePath, names }: CachePlace): string {
  return names.at(-1) ?? storePathBaseName(storePath);
}

/** Ends with the range: what follows is not read, and nothing short of the whole is proven. */
async function* partOf(body: ByteStream, { start, length }: ByteRange): AsyncGenerator<Uint8Array> {
  let skip = start;
  let left = length;
  for await (const chunk of body) {
    const part = chunk.subarray(skip, skip + left);
    skip = Math.max(skip - chunk.length, 0);
    left -= part.length;
    if (part.length > 0) yield part;
    if (left === 0) return;
  }
}
