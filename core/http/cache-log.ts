import type { Actor } from "../domain/actor.ts";
import { ANONYMOUS } from "../domain/actor.ts";
import type { StorePath } from "../nix/store-path.ts";
import type { LogReadDeps } from "../services/build-logs-read.ts";
import { lookUpCacheLog } from "../services/cache-log.ts";
import type { ServedCache } from "../services/cache-lookup.ts";
import { answerBytes, readable } from "./byte-answer.ts";
import * as answer from "./cache-answers.ts";
import type { CacheRelay } from "./cache-relay.ts";

export interface CacheLogDeps extends LogReadDeps {
  readonly relay?: CacheRelay;
  authenticate(request: Request): Promise<Actor | null>;
}

const HEADERS = {
  ...answer.USER_MADE,
  ...answer.FOR_ANY_PAGE,
  "content-type": "text/plain; charset=utf-8",
} as const;

/**
 * The log of the build that made what the cache has: `log/<hash>-<name>.drv`. A cache that everybody reads may hold
 * outputs of builds that only members see: to others there is no such log.
 */
export async function answerLog(
  deps: CacheLogDeps,
  {
    request,
    cache,
    derivation,
  }: { readonly request: Request; readonly cache: ServedCache; readonly derivation: StorePath },
): Promise<Response> {
  const actor = (await deps.authenticate(request)) ?? ANONYMOUS;
  const log = await lookUpCacheLog(deps, actor, { cacheId: cache.id, derivation });
  if (!log) return (await relayed(deps, { request, cache, derivation })) ?? answer.notFound();
  const response = await answerBytes(request, {
    size: log.bytes,
    etag: `"${log.id}-${log.bytes}"`,
    cacheControl: log.public ? answer.shortCacheControl(cache) : answer.PRIVATE,
    headers: HEADERS,
    resumable: true,
    isThere: async () => true,
    open: async (range) =>
      log.read(range ? { start: range.start, end: range.start + range.length } : { start: 0, end: log.bytes }),
    isLost: () => false,
  });
  return response ?? answer.notFound();
}

async function relayed(
  { relay }: CacheLogDeps,
  {
    request,
    cache,
    derivation,
  }: { readonly request: Request; readonly cache: ServedCache; readonly derivation: StorePath },
): Promise<Response | null> {
  const body = await relay?.log(cache, derivation, request.headers.get("via"));
  if (!body) return null;
  const headers = { ...HEADERS, "cache-control": answer.shortCacheControl(cache) };
  if (request.method !== "HEAD") return new Response(await readable(body), { headers });
  await body[Symbol.asyncIterator]().return?.();
  return new Response(null, { headers });
}
