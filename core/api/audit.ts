/** What one did oneself. */
export interface AuditEventView {
  readonly id: string;
  readonly event: string;
  readonly ip: string | null;
  readonly user_agent: string | null;
  readonly metadata: Readonly<Record<string, string | number | boolean | null | readonly string[]>>;
  readonly created_at: string;
}

/** What was done to an organization or a cache, for its admins. Where people did it from is theirs to know. */
export interface RealmAuditEventView {
  readonly id: string;
  readonly event: string;
  /** What the user was called then; null for what the server did by itself. */
  readonly user: string | null;
  readonly metadata: AuditEventView["metadata"];
  readonly created_at: string;
}
