/** What one organization lets a worker do for it. */
export interface SessionGrant {
  readonly organizationId: string;
  readonly fetch: boolean;
  readonly eval: boolean;
  readonly build: boolean;
}

export interface PeerFailure {
  readonly peer_id: string;
  readonly reason: string;
}

/** The organizations that a worker has to prove itself to, or why none lets it in. */
export type Challenge =
  | { readonly peers: readonly string[] }
  | { readonly refused: { readonly code: 401 | 403; readonly reason: string } };

/** Who decides which workers are let in: the database of a server, or what a relay was told. */
export interface SessionAuthority {
  challenge(workerId: string): Promise<Challenge>;
  /** Each organization decides for itself: a wrong token for one takes nothing from another. */
  authorize(
    workerId: string,
    tokens: readonly { readonly peer: string; readonly token: string }[],
  ): Promise<{ readonly grants: readonly SessionGrant[]; readonly failed: readonly PeerFailure[] }>;
}
