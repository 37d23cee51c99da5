import { DomainError } from "../errors.ts";

/** Who asks. Anonymous when `user` is null. What the actor may do is decided in services, from rows. */
export interface Actor {
  readonly user: ActorUser | null;
  /** Set when the request came with an API key: the key narrows what its owner may do. */
  readonly key: ActorKey | null;
  /** Set when the request came with a session's token. */
  readonly sessionId: string | null;
  /** Why the credentials that came were refused. Where no user is needed the actor is simply anonymous. */
  readonly refusal?: DomainError;
  /** Where the request came from, for the audit log. */
  readonly client?: ActorClient;
}

export interface ActorClient {
  /** As believed from the trusted proxies. */
  readonly address: string;
  /** What shares are counted by: the address, or the network that one customer has of IPv6. */
  readonly network?: string;
  readonly userAgent: string | null;
}

export interface ActorUser {
  readonly id: string;
  readonly username: string;
  readonly superuser: boolean;
}

export interface ActorKey {
  readonly id: string;
  /** Organization permissions, or cache permissions when the key is pinned to a cache. */
  readonly permissions: number;
  readonly organizationId: string | null;
  readonly cacheId: string | null;
}

export const ANONYMOUS: Actor = { user: null, key: null, sessionId: null };

/** The signed-in user. Throws `unauthorized`, or the reason why the credentials were refused, for anyone else. */
export function requireUser(actor: Actor): ActorUser {
  if (actor.user) return actor.user;
  throw (
    actor.refusal ??
    new DomainError("unauthorized", "Authentication is required: send `Authorization: Bearer <token or API key>`")
  );
}
