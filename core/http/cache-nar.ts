import { type Bytes, equalBytes } from "../lib/bytes.ts";
import { encodeBase32 } from "../nix/base32.ts";
import type { CacheLookupDeps, ServedCache } from "../services/cache-lookup.ts";
import type { Nar } from "../services/nar.ts";
import { isNarStored, NarDamagedError, type NarOpenDeps, openNar, openNarRange } from "../services/nar-open.ts";
import type { NarTraffic } from "../services/traffic.ts";
import { answerBytes } from "./byte-answer.ts";
import type { CacheDoor } from "./cache-access.ts";
import * as answer from "./cache-answers.ts";
import type { CacheRelay } from "./cache-relay.ts";
import { findKnownNar } from "./known-nar.ts";
import {
  answerElsewhere,
  mayBeElsewhere,
  type NarElsewhere,
  PLACE_ONLY,
  PROXY_HEADER,
  pathForProxy,
  placeHeaders,
} from "./nar-elsewhere.ts";
import type { NarFiles } from "./nar-files.ts";
import type { KnownNar, NarMemory } from "./nar-memory.ts";
import type { PlainAnswer, PlainRequest } from "./plain-answer.ts";

export interface CacheNarDeps extends CacheLookupDeps, NarOpenDeps {
  readonly nars: NarMemory;
  /** Null: none is kept. */
  readonly files: Pick<NarFiles, "read"> | null;
  readonly relay?: CacheRelay;
  readonly elsewhere?: NarElsewhere;
  readonly traffic?: Pick<NarTraffic, "sent">;
}

export interface NarRequest {
  readonly request: Request;
  readonly cache: ServedCache;
  readonly fileHash: Bytes;
}

const CONTENT_TYPE = "application/x-nix-nar";
/** Files up to this size are kept whole: most paths of a system have one, and what they cost is the request. */
const KEPT_BYTES_MAX = 1024 * 1024;
/** And where somebody else may send it, up to this: to be sent there costs a client as much. */
const KEPT_BESIDE_OTHERS_BYTES_MAX = 256 * 1024;
/** With the path's hash as in narinfos for a proxy: clients remember those longer than there is a proxy. */
const TARGET = /^\/cache\/([^/]+)\/nar\/([^/]{52})\.nar\.zst(?:\?hash=[0-9a-z]{32})?$/;

/**
 * The whole of a small file of a public cache that is in memory, or for a proxy that asks for no more the place of a
 * file that was there a moment ago; null for everything else. The names are looked up as they are: what no cache can
 * hold is found nowhere.
 */
export function narFromMemory(
  { nars, traffic, elsewhere }: Pick<CacheNarDeps, "nars" | "traffic" | "elsewhere">,
  door: CacheDoor,
  { method, target, ifNoneMatch, range, sendfileType }: PlainRequest,
): PlainAnswer | null {
  if (!target || method !== "GET" || ifNoneMatch !== undefined || range !== undefined) return null;
  const [, cacheName, name] = TARGET.exec(target) ?? [];
  const cache = cacheName !== undefined && door.remembered(cacheName);
  if (!cache || name === undefined) return null;
  const known = nars.get(cache.id, name);
  if (known?.name !== name) return null;
  const headers = ["cache-control", answer.immutableCacheControl(cache)];
  if (sendfileType === PLACE_ONLY) {
    const path = nars.pathOf(cache.id, name);
    if (path === null) return null;
    if (!elsewhere?.proxyCounts) traffic?.sent(cache.id, known.nar.fileSize);
    headers.push(...Object.entries(placeHeaders(cache, { ...known, path })).flat());
    return { kind: "place", status: 204, headers, body: "" };
  }
  if (!known.file) return null;
  traffic?.sent(cache.id, known.file.length);
  headers.push("content-type", CONTENT_TYPE, "x-content-type-options", "nosniff", "etag", `"${name}"`);
  headers.push("accept-ranges", "bytes", "content-length", String(known.file.length));
  return { kind: "nar", status: 200, headers, body: known.file };
}

/**
 * A NAR file. The whole of it is proven while it streams: a body that is not what was stored is cut before its last
 * chunk (and answered 404 when it is of one chunk), and 404 from then on. A range is served as it is stored: nothing
 * short of the whole can be proven, and whoever puts parts together checks the NAR's hash. A proxy that asks where the
 * file lies is told.
 */
export async function answerNar(deps: CacheNarDeps, asked: NarRequest): Promise<Response> {
  const { request, cache, fileHash } = asked;
  if (request.headers.get(PROXY_HEADER) === PLACE_ONLY) return await answerPlace(deps, asked);
  const isRemembered = deps.nars.get(cache.id, encodeBase32(fileHash)) !== undefined;
  const response = await answerFound(deps, asked);
  if (response) return response;
  // What was remembered may have been stored anew elsewhere. It is forgotten now, and so it is looked up.
  return (isRemembered ? await answerFound(deps, asked) : null) ?? answer.notFound();
}

/** Null when the file is gone: what was known of it is forgotten then. */
async function answerFound(deps: CacheNarDeps, asked: NarRequest): Promise<Response | null> {
  const { request, cache, fileHash } = asked;
  const known = await findNar(deps, asked, { withFile: true });
  if (known === "gone") return null;
  if (!known) return (await deps.relay?.nar(cache, { fileHash }, request)) ?? null;
  const { nar, file } = known;
  // Under a name from before the NAR was stored anew the bytes are others: neither for ever nor to be resumed.
  const named = equalBytes(fileHash, nar.fileHash.digest);
  const etag = `"${known.name}"`;
  const cacheControl = named ? answer.immutableCacheControl(cache) : answer.shortCacheControl(cache);
  const headers = { ...answer.NOT_GUESSED, "content-type": CONTENT_TYPE };
  const elsewhere = { nar, headers: { ...headers, etag, "cache-control": cacheControl } };
  // What has other bytes than its name says must not be resumed, which nobody else would know.
  const sentElsewhere = named && !isKept(deps, request, nar) ? await answerElsewhere(deps, request, elsewhere) : null;
  if (sentElsewhere) {
    deps.traffic?.sent(cache.id, nar.fileSize);
    return sentElsewhere;
  }
  const response = await answerBytes(request, {
    size: nar.fileSize,
    etag,
    cacheControl,
    headers,
    resumable: named,
    bytes: file,
    isThere: () => isNarStored(deps, nar),
    open: (range) => (range ? openNarRange(deps, nar, range) : openNar(deps, nar)),
    isLost: (error) => error instanceof NarDamagedError,
  });
  if (!response) deps.nars.forget(`${cache.id}/${known.pathHash}`);
  else if (response.ok && request.method === "GET") deps.traffic?.sent(cache.id, sizeOf(response));
  return response;
}

/** 204, without a place where we must answer ourselves, also what is wrong with the file. */
async function answerPlace(deps: CacheNarDeps, asked: NarRequest): Promise<Response> {
  const { nars, traffic, elsewhere } = deps;
  const { request, cache, fileHash } = asked;
  const name = encodeBase32(fileHash);
  const { generation } = nars;
  const known = await findNar(deps, asked, { withFile: false });
  const isNamed = known !== null && known !== "gone" && known.name === name;
  const path = isNamed ? await pathForProxy(deps, known.nar) : null;
  if (!isNamed || path === null) return new Response(null, { status: 204, headers: { "cache-control": "no-store" } });
  if (!elsewhere?.movingTo) nars.setPath({ cacheId: cache.id, name }, path, generation);
  if (request.method === "GET" && !elsewhere?.proxyCounts) traffic?.sent(cache.id, known.nar.fileSize);
  const headers = { "cache-control": answer.immutableCacheControl(cache), ...placeHeaders(cache, { ...known, path }) };
  return new Response(null, { status: 204, headers });
}

/** Of what is kept in memory a whole GET reads the file, too, and forgets what is known of one that is gone. */
async function findNar(
  deps: CacheNarDeps,
  { request, cache, fileHash }: NarRequest,
  { withFile }: { readonly withFile: boolean },
): Promise<KnownNar | "gone" | null> {
  const { nars } = deps;
  const { generation } = nars;
  const known = await findKnownNar(deps, { cacheId: cache.id, fileHash });
  if (!known || known.file) return known;
  const isWanted = withFile && isWhole(request) && isKept(deps, request, known.nar);
  const file = isWanted ? await deps.files?.read(known.nar) : null;
  if (file === "gone") {
    // That it is damaged is reported of all paths that have it: no narinfo tells of it any more.
    nars.forget(`${cache.id}/${known.pathHash}`);
    return file;
  }
  if (!file) return known;
  const kept = { ...known, file };
  nars.put({ cacheId: cache.id, name: encodeBase32(fileHash) }, kept, generation);
  return kept;
}

function sizeOf({ headers }: Response): number {
  return Number(headers.get("content-length") ?? 0);
}

function isWhole({ method, headers }: Request): boolean {
  return method === "GET" && !headers.has("if-none-match") && !headers.has("range");
}

function isKept(deps: Pick<CacheNarDeps, "elsewhere">, request: Request, { fileSize }: Nar): boolean {
  return fileSize <= (mayBeElsewhere(deps, request) ? KEPT_BESIDE_OTHERS_BYTES_MAX : KEPT_BYTES_MAX);
}
