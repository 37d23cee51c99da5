import { DomainError } from "../errors.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { ServedCache } from "../services/cache-lookup.ts";
import { lookUpDebugInfo } from "../services/debug-info.ts";
import { type CacheAccessDeps, CacheDoor } from "./cache-access.ts";
import * as answer from "./cache-answers.ts";
import { answerFile, type CacheServeDeps } from "./cache-file.ts";
import { answerGradientInfo, answerInfo, type CacheInfoDeps } from "./cache-info.ts";
import { answerListing } from "./cache-listing.ts";
import { answerLog, type CacheLogDeps } from "./cache-log.ts";
import { answerNar, type CacheNarDeps, narFromMemory } from "./cache-nar.ts";
import { NarInfoAnswers } from "./cache-narinfo.ts";
import { type CacheRoute, isCachePath, parseCacheRoute, type RouteKind, splitUrl } from "./cache-route.ts";
import { NarFiles } from "./nar-files.ts";
import { NarMemory } from "./nar-memory.ts";
import { NarPlaces } from "./nar-places.ts";
import { NARINFO_MEMORY_LIMITS, NarInfoMemory } from "./narinfo-memory.ts";
import type { PlainAnswer, PlainRequest } from "./plain-answer.ts";

export interface CacheSurfaceDeps
  extends CacheAccessDeps,
    Omit<CacheNarDeps, "nars" | "files">,
    CacheInfoDeps,
    CacheServeDeps,
    CacheLogDeps {
  readonly notifier: Notifier;
  /** False where it lives for one request only: narinfos are not kept, and small NARs are sent like large ones. */
  readonly remembers?: boolean;
  /** Answers what is not GET, and the HEAD of what was put and waits; null for the rest. It decides itself who may. */
  write?(request: Request): Promise<Response | null>;
  /** The signed JSON of what an output of a derivation without a path of its own became. */
  realisation?(
    cache: ServedCache,
    output: { readonly derivation: string; readonly output: string },
  ): Promise<string | null>;
}

export interface CacheSurface {
  /** Null when the path is not below `/cache/`. It never throws. */
  (request: Request): Promise<Response | null>;
  /** The hot path: what can be said of memory alone, at once. Null for everything else. */
  fromMemory(request: PlainRequest): PlainAnswer | null;
}

/** What Nix does without; everything else says that it cannot answer now. */
const ABSENT_ON_DOUBT: ReadonlySet<RouteKind> = new Set<RouteKind>([
  "narinfo",
  "nar",
  "relayedNar",
  "log",
  "realisation",
]);

/**
 * What is asked of a binary cache, below `/cache/<name>/`. To be mounted ahead of any middleware. It listens to the
 * topics `path` and `missed` for as long as the process lives.
 */
export function createCacheSurface(deps: CacheSurfaceDeps): CacheSurface {
  const door = new CacheDoor(deps);
  const { remembers = true } = deps;
  const memory = new NarInfoMemory(deps.clock, { ...NARINFO_MEMORY_LIMITS, ...(!remembers && { blocksMax: 0 }) });
  const nars = new NarMemory(deps.clock, memory);
  const forgetAll = (prefix: string) => {
    memory.forgetAll(prefix);
    nars.forgetAll(prefix);
  };
  const forget = (subject: string) => {
    if (subject.endsWith("/")) {
      door.forget(subject.slice(0, -1));
      return forgetAll(subject);
    }
    memory.forget(subject);
    nars.forget(subject);
  };
  deps.notifier.subscribe("path", forget);
  deps.notifier.subscribe("missed", () => {
    door.forgetAll();
    forgetAll("");
  });
  // Damage found here must be forgotten here at once, and not when the wake-up has made its round.
  const notifier: Notifier = {
    notify(topic, subject) {
      if (topic === "path") forget(subject);
      deps.notifier.notify(topic, subject);
    },
    subscribe: (topic, handler) => deps.notifier.subscribe(topic, handler),
  };
  const narInfos = new NarInfoAnswers({ ...deps, nars, places: new NarPlaces({ ...deps, nars }) }, door, memory);
  const own = { ...deps, notifier, nars };
  const files = remembers ? new NarFiles(own) : null;
  const context: Context = { deps: { ...own, files }, door, narInfos };
  return Object.assign((request: Request) => handle(context, request), {
    fromMemory: (request: PlainRequest) => narInfos.fromMemory(request) ?? narFromMemory(context.deps, door, request),
  });
}

interface Context {
  readonly deps: CacheSurfaceDeps & CacheNarDeps;
  readonly door: CacheDoor;
  readonly narInfos: NarInfoAnswers;
}

async function handle(context: Context, request: Request): Promise<Response | null> {
  const { path, query } = splitUrl(request.url);
  if (!isCachePath(path)) return null;
  const response = await decide(context, request, { route: parseCacheRoute(path, query), query });
  // What is not there has the same headers for HEAD, whyever it is not there.
  return request.method === "HEAD" && response.body ? answer.withoutBody(response) : response;
}

async function decide(
  context: Context,
  request: Request,
  { route, query }: { readonly route: CacheRoute | null; readonly query: string },
): Promise<Response> {
  const { deps, door } = context;
  const { method } = request;
  const isRead = method === "GET" || method === "HEAD";
  try {
    const written = method === "GET" ? null : await deps.write?.(request);
    if (written) return written;
    if (!route) return answer.notFound();
    if (!isRead) return answer.methodNotAllowed();
    const cache = door.remembered(route.cache) ?? (await door.enter(route.cache, request));
    if (cache === "challenge") return answer.challenge();
    if (cache === "hidden") return answer.notFound();
    return await serve(context, { request, route, cache, asJson: isJsonAsked(query) });
  } catch (error) {
    const isBusy = error instanceof DomainError && error.code === "service_unavailable";
    if (!isBusy) deps.log.error("a cache request failed", { error, cache: route?.cache, kind: route?.kind });
    // Nix survives a 404 of a path, where a 5xx ends its whole command; nix-cache-info it asks again after a 5xx.
    return isRead && route && ABSENT_ON_DOUBT.has(route.kind) ? answer.notFound() : answer.unavailable();
  }
}

interface Asked {
  readonly request: Request;
  readonly route: CacheRoute;
  readonly cache: ServedCache;
  readonly asJson: boolean;
}

async function serve({ deps, narInfos }: Context, { request, route, cache, asJson }: Asked): Promise<Response> {
  switch (route.kind) {
    case "narinfo":
      return await narInfos.answer(request, { cache, hash: route.hash, asJson });
    case "nar":
      return await answerNar(deps, { request, cache, fileHash: route.fileHash });
    case "relayedNar":
      return (await deps.relay?.nar(cache, route.file, request)) ?? answer.notFound();
    case "info":
      return answerInfo(deps, { request, cache, asJson });
    case "gradientInfo":
      return answerGradientInfo(deps, { cache, asJson });
    case "listing":
      return await answerListing(deps, { request, cache, hash: route.hash });
    case "file":
      return await answerFile(deps, { request, cache, hash: route.hash, file: route.file });
    case "log":
      return await answerLog(deps, { request, cache, derivation: route.derivation });
    case "debugInfo": {
      const found = await lookUpDebugInfo(deps, { cacheId: cache.id, buildId: route.buildId });
      return found ? answer.json(found, answer.shortCacheControl(cache)) : answer.notFound();
    }
    case "realisation": {
      const text = await deps.realisation?.(cache, route);
      return text ? answer.text(text, "application/json", answer.shortCacheControl(cache)) : answer.notFound();
    }
  }
}

/** `?json`, with or without a value. */
function isJsonAsked(query: string): boolean {
  return query !== "" && new URLSearchParams(query).has("json");
}
