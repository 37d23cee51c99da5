/** Who asks. Anonymous when `user` is null. What the actor may do is decided in services, from rows. */
export interface Actor {
  readonly user: ActorUser | null;
  /** Set when the request came with an API key: the key narrows what its owner may do. */
  readonly key: ActorKey | null;
  /** Set when the request came with a session's token. */
  readonly sessionId: string | null;
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
