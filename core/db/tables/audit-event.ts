import type { ColumnType, Selectable } from "kysely";

/** What is told of an event beside who and when. */
export type AuditMetadata = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

export interface AuditEventTable {
  id: string;
  /** `AuditEvent`, or what an earlier version wrote. */
  event: string;
  user_id: string | null;
  /** What the user was called then. */
  username: string | null;
  organization_id: string | null;
  cache_id: string | null;
  ip: string | null;
  user_agent: string | null;
  metadata: ColumnType<AuditMetadata, string | undefined, never>;
  created_at: ColumnType<Date, Date | undefined, never>;
}
export type AuditEventRow = Selectable<AuditEventTable>;
