import type { ColumnType, Generated, Selectable } from "kysely";

/** Somebody who is declared to be a member and has no account yet; of an organization or of a cache. */
export interface PendingMemberTable {
  organization_id: string | null;
  role_id: string | null;
  cache_id: string | null;
  cache_role_id: string | null;
  username: string;
  created_at: ColumnType<Date, Date | undefined, never>;
}

/** A worker that any organization may use. Those that do have a registration of it. */
export interface BaseWorkerTable {
  id: string;
  worker_id: string;
  display_name: string;
  token_hash: string;
  url: string | null;
  enabled: Generated<boolean>;
  enable_fetch: Generated<boolean>;
  enable_eval: Generated<boolean>;
  enable_build: Generated<boolean>;
  /** To whom the worker proves itself, once for all organizations; null: to each of them. */
  authorize_against: string | null;
  created_by: string | null;
  created_at: ColumnType<Date, Date | undefined, never>;
}
export type BaseWorkerRow = Selectable<BaseWorkerTable>;
