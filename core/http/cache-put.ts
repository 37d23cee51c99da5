import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { fromUtf8 } from "../lib/bytes.ts";
import { collect } from "../lib/streams.ts";
import { NARINFO_BYTES_MAX } from "../nix/narinfo.ts";
import { REALISATION_BYTES_MAX } from "../nix/realisation.ts";
import { STORE_DIR } from "../nix/store-path.ts";
import { PUSHED_LOG_BYTES_MAX, pushLog } from "../services/cache-log-push.ts";
import { isNarPut, putNar, putNarInfo } from "../services/cache-put.ts";
import { putRealisation } from "../services/cache-realisation.ts";
import { type Pusher, requirePusher, type UploadDeps } from "../services/cache-upload.ts";
import * as answer from "./cache-answers.ts";
import { type PutRoute, parsePutRoute } from "./cache-put-route.ts";
import { isCachePath, rawPath } from "./cache-route.ts";
import { failureResponse, INTERNAL_ERROR } from "./envelope.ts";
import { decodedBody, requireAnnouncedWithin, uploadBody } from "./upload-body.ts";

export interface CachePutDeps extends UploadDeps {
  /** Null for a request without credentials that are valid now. */
  authenticate(request: Request): Promise<Actor | null>;
}

const CACHE_INFO_BYTES_MAX = 4_096;
const NO_STORE = { "cache-control": "no-store" };

/**
 * What the stock client does to a cache that it copies to (`nix copy --to http://…`): PUT, and before it a HEAD of the
 * file that it would send. Null for every other request. It never throws.
 *
 * Whoever sends no credentials that are valid gets the same challenge for every name, and who may not see the cache
 * the same 404. Refusals come with words, which Nix shows.
 */
export async function answerPut(deps: CachePutDeps, request: Request): Promise<Response | null> {
  const { method } = request;
  if (method !== "PUT" && (method !== "HEAD" || !request.headers.has("authorization"))) return null;
  const path = rawPath(request.url);
  const route = isCachePath(path) ? parsePutRoute(path) : null;
  if (!route) return null;
  try {
    if (method === "HEAD") return route.kind === "nar" ? await answerHead(deps, request, route) : null;
    const actor = await deps.authenticate(request);
    if (!actor?.user) return answer.challenge();
    const pusher = await requirePusher(deps, actor, route.cache);
    requireAnnouncedWithin(request, bytesMaxOf(deps, route));
    await take(deps, { request, route, pusher });
    return new Response(null, { status: 200, headers: { ...NO_STORE, "content-length": "0" } });
  } catch (error) {
    if (!(error instanceof DomainError))
      deps.log.error("a push failed", { error, cache: route.cache, kind: route.kind });
    else if (error.cause !== undefined) deps.log.info("a push was refused", { error, cache: route.cache });
    // A file that is not known to be there is sent again.
    if (method === "HEAD") return null;
    return failureResponse(error instanceof DomainError ? error : INTERNAL_ERROR, NO_STORE);
  }
}

/** A file that this pusher has put there and not named yet is not put again. */
async function answerHead(
  deps: CachePutDeps,
  request: Request,
  { cache, fileHash }: Extract<PutRoute, { kind: "nar" }>,
): Promise<Response | null> {
  const actor = await deps.authenticate(request);
  const pusher = actor?.user && (await requirePusher(deps, actor, cache).catch(unlessRefused));
  if (!pusher || !(await isNarPut(deps, pusher, fileHash))) return null;
  return new Response(null, {
    headers: { "content-type": "application/x-nix-nar", "cache-control": "private, no-store" },
  });
}

function bytesMaxOf({ narUploadBytesMax }: CachePutDeps, { kind }: PutRoute): number {
  switch (kind) {
    case "info":
      return CACHE_INFO_BYTES_MAX;
    case "narinfo":
      return NARINFO_BYTES_MAX;
    case "nar":
    case "derived":
      return narUploadBytesMax;
    case "realisation":
      return REALISATION_BYTES_MAX;
    case "log":
      return PUSHED_LOG_BYTES_MAX;
  }
}

interface Put {
  readonly request: Request;
  readonly route: PutRoute;
  readonly pusher: Pusher;
}

async function take(deps: CachePutDeps, { request, route, pusher }: Put): Promise<void> {
  const bytesMax = bytesMaxOf(deps, route);
  switch (route.kind) {
    case "nar":
      return await putNar(deps, pusher, { fileHash: route.fileHash, body: uploadBody(request, bytesMax) });
    case "narinfo":
      return await putNarInfo(deps, pusher, { hash: route.hash, text: await text(deps, request, bytesMax) });
    case "realisation":
      return await putRealisation(deps, pusher, { key: route.key, text: await text(deps, request, bytesMax) });
    case "log":
      return await pushLog(deps, pusher, {
        derivation: route.derivation,
        log: decodedBody(deps.codec, request, bytesMax),
      });
    case "info":
      return requireSameStore(await text(deps, request, bytesMax));
    case "derived":
      // Listings and indexes are made from the NAR itself: what is pushed could say anything.
      for await (const _ of uploadBody(request, bytesMax));
  }
}

async function text({ codec }: CachePutDeps, request: Request, bytesMax: number): Promise<string> {
  const bytes = await collect(decodedBody(codec, request, bytesMax), bytesMax);
  try {
    return fromUtf8(bytes);
  } catch {
    throw new DomainError("unprocessable_entity", "the body is not UTF-8");
  }
}

/** Nix puts its own where it finds none. Ours stays, and holds for the same store. */
function requireSameStore(info: string): void {
  const folder = /^StoreDir: (.*)$/m.exec(info)?.[1];
  if (folder !== undefined && folder !== STORE_DIR) {
    throw new DomainError("unprocessable_entity", `this cache is of ${STORE_DIR}, not of ${folder}`);
  }
}

function unlessRefused(error: unknown): null {
  if (error instanceof DomainError) return null;
  throw error;
}
