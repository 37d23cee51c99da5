import type { Bytes } from "../lib/bytes.ts";
import type { ByteStream } from "../lib/streams.ts";
import type { StorePath } from "../nix/store-path.ts";
import type { ServedCache } from "../services/cache-lookup.ts";
import type { RelayedFile } from "./cache-route.ts";

/**
 * What a cache passes on that it does not hold itself. Asked only where its own paths have no answer, and only for
 * clients who may read the cache; what throws is answered 404.
 */
export interface CacheRelay {
  /**
   * A narinfo's text as it goes out. Remembered like the cache's own, for a minute, where it is ASCII. `via` is the
   * request's `Via`: two caches that rest on each other must not ask each other for ever.
   */
  narInfo(cache: ServedCache, hash: string, via: string | null): Promise<string | null>;
  /** To a GET or HEAD for a NAR file, by the hash of the file or by the name that an upstream gave it. */
  nar(cache: ServedCache, file: { readonly fileHash: Bytes } | RelayedFile, request: Request): Promise<Response | null>;
  /** The log of a build that none of ours made. */
  log(cache: ServedCache, derivation: StorePath, via: string | null): Promise<ByteStream | null>;
}
