import type { ServedCache } from "../services/cache-lookup.ts";
import { parseUpstreamNarName } from "../services/upstream-nar-name.ts";
import type { UpstreamRelay } from "../services/upstream-relay.ts";
import { readable } from "./byte-answer.ts";
import * as answer from "./cache-answers.ts";
import type { CacheRelay } from "./cache-relay.ts";

/**
 * What a cache passes on of its upstreams. A NAR file comes whole or not at all: it is proven while it passes, and no
 * two passages need be the same bytes.
 */
export function createUpstreamRelay(relay: UpstreamRelay): CacheRelay {
  return {
    narInfo: (cache, hash, via) => relay.narInfo({ cacheId: cache.id, hash, via }),
    async nar(cache, file, request) {
      // Under the name of a file of ours there is nothing of others.
      const name = "path" in file ? parseUpstreamNarName(file.path) : null;
      if (!name) return null;
      const question = { cacheId: cache.id, via: request.headers.get("via"), name };
      if (request.method === "HEAD") {
        const found = await relay.narSize(question);
        return found && new Response(null, { headers: narHeaders(cache, found.size) });
      }
      const opened = await relay.nar(question);
      return opened && new Response(await readable(opened.body), { headers: narHeaders(cache, opened.size) });
    },
    log: (cache, derivation, via) => relay.log({ cacheId: cache.id, via, derivation }),
  };
}

function narHeaders(cache: ServedCache, size: number | null): Record<string, string> {
  return {
    ...answer.NOT_GUESSED,
    "content-type": "application/x-nix-nar",
    "accept-ranges": "none",
    "cache-control": answer.shortCacheControl(cache),
    ...(size !== null && { "content-length": String(size) }),
  };
}
