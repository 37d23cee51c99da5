import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { requireCache } from "../services/access.ts";
import { authenticate } from "../services/authenticate.ts";
import type { ServiceDeps } from "../services/deps.ts";
import type { CacheAccessDeps } from "./cache-access.ts";
import { cacheToken } from "./credentials.ts";

/**
 * Who asks a cache, and what they may read of it. Credentials that are refused, for whichever reason, are none: the
 * surface asks for others. `addressOf`: the client's address, asked for only where credentials came with the request.
 */
export function createCacheActors(
  deps: Pick<ServiceDeps, "db" | "clock" | "settings">,
  addressOf: (request: Request) => string,
): Pick<CacheAccessDeps, "authenticate" | "canReadCache"> {
  return {
    async authenticate(request): Promise<Actor | null> {
      const token = cacheToken(request.headers);
      if (token === null) return null;
      return await unlessRefused(authenticate(deps, { token, clientAddress: addressOf(request) }));
    },
    async canReadCache(actor, { name }) {
      return (await unlessRefused(requireCache(deps, actor, name, "readStore"))) !== null;
    },
  };
}

async function unlessRefused<T>(decision: Promise<T>): Promise<T | null> {
  try {
    return await decision;
  } catch (error) {
    if (error instanceof DomainError) return null;
    throw error;
  }
}
