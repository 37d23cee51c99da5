import type { ColumnType, Generated, GeneratedAlways, Selectable } from "kysely";

export interface CacheKeyTable {
  /** Of the first key of a cache: the cache's. */
  id: string;
  cache_id: string;
  /** `name:base64`. */
  public_key: string;
  name: GeneratedAlways<string>;
  /** Sealed for this row. */
  secret_key: Uint8Array;
  /** `KeyState`. */
  state: Generated<number>;
  /** The hash of the last path for which the state holds; null when it holds for all. */
  walked_to: string | null;
  created_at: ColumnType<Date, Date | undefined, never>;
  retired_at: Date | null;
}
export type CacheKeyRow = Selectable<CacheKeyTable>;
