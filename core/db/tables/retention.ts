import type { ColumnType, Generated, Selectable } from "kysely";

type CreatedAt = ColumnType<Date, Date | undefined, never>;

/** A name for a path that stays, with what it refers to. */
export interface CachePinTable {
  id: string;
  cache_id: string;
  name: string;
  /** So many of the newest revisions stay. */
  keep_revisions: number;
  last_revision: Generated<number>;
  created_at: CreatedAt;
}

export interface CachePinRevisionTable {
  pin_id: string;
  /** From 1. */
  revision: number;
  cache_id: string;
  hash: string;
  /** Base name. */
  store_path: string;
  created_by: string | null;
  created_at: CreatedAt;
}

/** A path that the cache does not take again. */
export interface BlockedPathTable {
  cache_id: string;
  hash: string;
  reason: string;
  blocked_by: string | null;
  created_at: CreatedAt;
}
export type BlockedPathRow = Selectable<BlockedPathTable>;

/** An object that no row names any more. Whoever deleted its row left this in the same transaction. */
export interface DiscardedObjectTable {
  object_key: string;
  since: Generated<Date>;
}

/** A path that a cache held and holds no more, while outputs of builds were recorded as available under it. */
export interface LostPathTable {
  /** Base name. */
  store_path: string;
  since: Generated<Date>;
}

/** A change of how much a cache holds; all rows of a cache together are what it holds. */
export interface CacheUsageTable {
  id: Generated<number>;
  cache_id: string;
  paths: number;
  /** Of the files that the paths are served from; a file counts for each of its paths. */
  bytes: number;
  /** The same of what is in the files. */
  nar_bytes: Generated<number>;
}

export interface RetentionSweepTable {
  id: string;
  /** 0 a whole one, 1 of the objects that no row names. */
  kind: number;
  started_at: CreatedAt;
  finished_at: Date | null;
  report: ColumnType<Readonly<Record<string, number>> | null, string | null | undefined, string>;
}

/** A path that may go, while one cache is looked through. */
export interface RetentionPathTable {
  /** UUIDv7: how old the work is. */
  mark_id: string;
  hash: string;
  /** Base name. */
  store_path: string;
  nar_hash: Uint8Array;
  file_size: number;
  /** As the path's row had it. */
  last_used_at: Date;
  /** The latest use of the path and of whatever refers to it; infinity: it stays. */
  used_at: Date;
  doomed: Generated<boolean>;
}

/** What the next step of a sweep looks at: hashes of paths or NARs, ids of builds, keys of objects. */
export interface RetentionStepTable {
  mark_id: string;
  step: number;
  subject: string;
}
