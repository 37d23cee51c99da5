import type { Actor } from "../domain/actor.ts";
import type { Clock } from "../lib/clock.ts";
import { type CacheLookupDeps, lookUpCache, type ServedCache } from "../services/cache-lookup.ts";

export interface CacheAccessDeps extends CacheLookupDeps {
  readonly clock: Clock;
  /** Null for a request without credentials that are valid now. */
  authenticate(request: Request): Promise<Actor | null>;
  /** Whether a signed-in actor may read a cache that is not public. */
  canReadCache(actor: Actor, cache: ServedCache): Promise<boolean>;
}

/** `challenge`: anonymous, and the name is no public cache's. `hidden`: signed in, but it is not theirs to see. */
export type CacheAccess = ServedCache | "challenge" | "hidden";

/** How long a cache that was made private may go on being public here when the wake-up was lost. */
const PUBLIC_AGE_MS_MAX = 5_000;
const PUBLIC_CACHES_MAX = 1_000;

/** Who may read which cache; public ones are remembered for a short time, so that the hot path asks nobody. */
export class CacheDoor {
  readonly #deps: CacheAccessDeps;
  readonly #public = new Map<string, { readonly cache: ServedCache; readonly expiresAt: number }>();
  readonly #lookUps = new Map<string, { readonly changes: number; readonly cache: Promise<ServedCache | null> }>();
  /** Counts changes of caches: what was read before one is not remembered after it. */
  #changes = 0;

  constructor(deps: CacheAccessDeps) {
    this.#deps = deps;
  }

  /** A public cache that is still fresh in memory. */
  remembered(name: string): ServedCache | undefined {
    const known = this.#public.get(name);
    if (!known) return undefined;
    if (known.expiresAt > this.#deps.clock.monotonic()) return known.cache;
    this.#public.delete(name);
    return undefined;
  }

  async enter(name: string, request: Request): Promise<CacheAccess> {
    const changes = this.#changes;
    const cache = await this.#lookUp(name);
    if (cache?.public) {
      if (changes === this.#changes) this.#remember(cache);
      return cache;
    }
    // From here on an anonymous client learns nothing: neither whether there is such a cache nor whether it is active.
    const actor = await this.#deps.authenticate(request);
    if (!actor?.user) return "challenge";
    return cache && (await this.#deps.canReadCache(actor, cache)) ? cache : "hidden";
  }

  /** Once for everybody who asks at the same time: a crowd that finds nothing remembered is one query. */
  #lookUp(name: string): Promise<ServedCache | null> {
    const running = this.#lookUps.get(name);
    if (running?.changes === this.#changes) return running.cache;
    const started = { changes: this.#changes, cache: lookUpCache(this.#deps, name) };
    this.#lookUps.set(name, started);
    const end = () => {
      if (this.#lookUps.get(name) === started) this.#lookUps.delete(name);
    };
    started.cache.then(end, end);
    return started.cache;
  }

  forget(cacheId: string): void {
    this.#changes++;
    for (const [name, { cache }] of this.#public) if (cache.id === cacheId) this.#public.delete(name);
  }

  forgetAll(): void {
    this.#changes++;
    this.#public.clear();
  }

  #remember(cache: ServedCache): void {
    if (this.#public.size >= PUBLIC_CACHES_MAX) this.#public.clear();
    this.#public.set(cache.name, { cache, expiresAt: this.#deps.clock.monotonic() + PUBLIC_AGE_MS_MAX });
  }
}
