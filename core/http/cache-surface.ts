import { utf8 } from "../lib/bytes.ts";
import { encodeBase32 } from "../nix/base32.ts";
import { sha256 } from "../nix/hash.ts";
import { STORE_DIR } from "../nix/store-path.ts";
import type { Notifier } from "../ports/notifier.ts";
import { lookUpNarInfo, type ServedCache } from "../services/cache-lookup.ts";
import type { PathUses } from "../services/cache-uses.ts";
import { type CacheAccessDeps, CacheDoor } from "./cache-access.ts";
import * as answer from "./cache-answers.ts";
import { answerNar, type CacheNarDeps } from "./cache-nar.ts";
import { type CacheRoute, isCachePath, parseCacheRoute, rawPath } from "./cache-route.ts";
import { isNotModified } from "./conditional.ts";
import { NarInfoMemory, type RenderedNarInfo } from "./narinfo-memory.ts";

export interface CacheSurfaceDeps extends CacheAccessDeps, CacheNarDeps {
  readonly notifier: Notifier;
  readonly uses: Pick<PathUses, "touch">;
  /** Whether the client is in the operator's own networks, where caches may have another priority. */
  isLocalClient?(request: Request): boolean;
}

/** Null when the path is not below `/cache/`. It never throws. */
export type CacheSurface = (request: Request) => Promise<Response | null>;

const ETAG_LENGTH = 32;

/**
 * What a Nix client asks a binary cache: `nix-cache-info`, narinfos and NAR files below `/cache/<name>/`. To be mounted
 * ahead of any middleware. It listens to the topics `path` and `missed` for as long as the process lives.
 */
export function createCacheSurface(deps: CacheSurfaceDeps): CacheSurface {
  const door = new CacheDoor(deps);
  const memory = new NarInfoMemory(deps.clock);
  const forget = (subject: string) => {
    if (!subject.endsWith("/")) return memory.forget(subject);
    door.forget(subject.slice(0, -1));
    memory.forgetAll(subject);
  };
  deps.notifier.subscribe("path", forget);
  deps.notifier.subscribe("missed", () => memory.forgetAll(""));
  // Damage found here must be forgotten here at once, and not when the wake-up has made its round.
  const notifier: Notifier = {
    notify(topic, subject) {
      if (topic === "path") forget(subject);
      deps.notifier.notify(topic, subject);
    },
    subscribe: (topic, handler) => deps.notifier.subscribe(topic, handler),
  };
  const context: Context = { deps: { ...deps, notifier }, memory };

  return async (request) => {
    const path = rawPath(request.url);
    if (!isCachePath(path)) return null;
    const route = parseCacheRoute(path);
    if (!route) return answer.notFound();
    const { method } = request;
    if (method !== "GET" && method !== "HEAD") return answer.methodNotAllowed();
    try {
      const cache = door.remembered(route.cache) ?? (await door.enter(route.cache, request));
      if (cache === "challenge") return answer.challenge();
      if (cache === "hidden") return answer.notFound();
      const response = await serve(context, { request, route, cache });
      return method === "HEAD" && response.body ? answer.withoutBody(response) : response;
    } catch (error) {
      deps.log.error("a cache request failed", { error, cache: route.cache, kind: route.kind });
      // Nix survives a 404 of a path, where a 5xx ends its whole command; nix-cache-info it asks again after a 5xx.
      return route.kind === "info" ? answer.unavailable() : answer.notFound();
    }
  };
}

interface Context {
  readonly deps: CacheSurfaceDeps;
  readonly memory: NarInfoMemory;
}

interface Asked {
  readonly request: Request;
  readonly route: CacheRoute;
  readonly cache: ServedCache;
}

function serve(context: Context, { request, route, cache }: Asked): Response | Promise<Response> {
  switch (route.kind) {
    case "info":
      return answerInfo(context.deps, request, cache);
    case "narinfo":
      return answerNarInfo(context, { request, cache, hash: route.hash });
    case "nar":
      return answerNar(context.deps, { request, cache, fileHash: route.fileHash });
  }
}

function answerInfo(deps: CacheSurfaceDeps, request: Request, cache: ServedCache): Response {
  const differsByClient = cache.localPriority !== null && deps.isLocalClient !== undefined;
  const priority = (differsByClient && deps.isLocalClient?.(request) ? cache.localPriority : null) ?? cache.priority;
  const text = `StoreDir: ${STORE_DIR}\nWantMassQuery: 1\nPriority: ${priority}\n`;
  return new Response(text, {
    headers: {
      "content-type": "text/x-nix-cache-info",
      "content-length": String(text.length),
      "cache-control": differsByClient ? "private, no-store" : answer.shortCacheControl(cache),
    },
  });
}

async function answerNarInfo(
  { deps, memory }: Context,
  { request, cache, hash }: { readonly request: Request; readonly cache: ServedCache; readonly hash: string },
): Promise<Response> {
  const key = `${cache.id}/${hash}`;
  const narInfo = memory.get(key) ?? (await memory.load(key, () => rendered(deps, { cacheId: cache.id, hash })));
  if (!narInfo) return answer.notFound();
  deps.uses.touch(key);
  const cacheControl = answer.shortCacheControl(cache);
  if (isNotModified(request.headers, narInfo.etag)) return answer.notModified(narInfo.etag, cacheControl);
  return new Response(narInfo.text, {
    headers: {
      "content-type": "text/x-nix-narinfo",
      "content-length": narInfo.contentLength,
      etag: narInfo.etag,
      "cache-control": cacheControl,
    },
  });
}

async function rendered(
  deps: CacheSurfaceDeps,
  path: { readonly cacheId: string; readonly hash: string },
): Promise<RenderedNarInfo | null> {
  const text = await lookUpNarInfo(deps, path);
  if (text === null) return null;
  const bytes = utf8(text);
  const etag = `"${encodeBase32(await sha256(bytes)).slice(0, ETAG_LENGTH)}"`;
  return { text, etag, contentLength: String(bytes.length) };
}
