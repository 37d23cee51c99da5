import { STORE_DIR } from "../nix/store-path.ts";
import type { ServedCache } from "../services/cache-lookup.ts";
import * as answer from "./cache-answers.ts";

export interface CacheInfoDeps {
  readonly instance: InstanceInfo;
  /** Whether the client is in the operator's own networks, where caches may have another priority. */
  isLocalClient?(request: Request): boolean;
}

/** What answers, for clients who want more than Nix does. */
export interface InstanceInfo {
  readonly version: string;
  readonly serveUrl: string;
}

/** `nix-cache-info`. Only what differs by client is kept by nobody. */
export function answerInfo(
  deps: CacheInfoDeps,
  { request, cache, asJson }: { readonly request: Request; readonly cache: ServedCache; readonly asJson: boolean },
): Response {
  const differsByClient = cache.localPriority !== null && deps.isLocalClient !== undefined;
  const priority = (differsByClient && deps.isLocalClient?.(request) ? cache.localPriority : null) ?? cache.priority;
  const cacheControl = differsByClient ? answer.PRIVATE : answer.shortCacheControl(cache);
  if (asJson) return answer.json({ WantMassQuery: true, StoreDir: STORE_DIR, Priority: priority }, cacheControl);
  const text = `StoreDir: ${STORE_DIR}\nWantMassQuery: 1\nPriority: ${priority}\n`;
  return answer.text(text, "text/x-nix-cache-info", cacheControl);
}

/** `gradient-cache-info`: whether a cache is one of Gradient's, and where its API is. */
export function answerGradientInfo(
  { instance: { version, serveUrl } }: CacheInfoDeps,
  { cache, asJson }: { readonly cache: ServedCache; readonly asJson: boolean },
): Response {
  const cacheControl = answer.shortCacheControl(cache);
  if (asJson) return answer.json({ GradientVersion: version, GradientUrl: serveUrl }, cacheControl);
  const text = `GradientVersion: ${version}\nGradientUrl: ${serveUrl}\n`;
  return answer.text(text, "text/x-gradient-cache-info", cacheControl, answer.FOR_ANY_PAGE);
}
