import type { ColumnType, Generated } from "kysely";

/** A server process that shares this database. Its row ends with it, or when others have not heard it for a while. */
export interface ServerTable {
  /** New at each start. */
  id: string;
  /** What holds its NARs, in words: all that share a database agree on it. Null: files of its own, so it is alone. */
  storage: string | null;
  started_at: ColumnType<Date, Date | undefined, never>;
  /** Database time of its last beat. */
  last_seen_at: Generated<Date>;
  /** Since when it has beaten without a pause: for so long it could have heard a worker. */
  steady_since: Generated<Date>;
  /** It is stopping: its workers go to other servers. */
  draining: Generated<boolean>;
  /** Of what was asked of its caches before, `cache_path.last_used_at` knows. */
  uses_flushed_at: Date | null;
}

/**
 * A build whose output is wanted and gone, and of which nobody recorded what it is made from; or an open one whose
 * sources are gone. Evaluating the commit again brings both back.
 */
export interface RecoveryNeedTable {
  build_id: string;
  since: Generated<Date>;
}

/** A build of which an output went, while its dependents have not all been told: what is left of a large fan-out. */
export interface OutputLossTable {
  build_id: string;
  lost_at: Generated<Date>;
}
