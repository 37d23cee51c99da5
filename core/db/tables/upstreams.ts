import type { ColumnType, Generated, Selectable } from "kysely";

export interface CacheUpstreamTable {
  id: string;
  cache_id: string;
  /** 0 another cache of this server, 1 a cache of another Gradient, 2 a binary cache over http or https. */
  kind: number;
  display_name: string;
  /** Without a slash at its end. Of another Gradient, the address of the server; null for a cache of this one. */
  url: string | null;
  /** `name:base64`; none for a cache of this server. */
  public_keys: string[];
  /** 0 read and write, 1 read only, 2 write only. */
  mode: Generated<number>;
  /** In whose name a cache of this server is read while it is not public. */
  added_by: ColumnType<string | null, string | null | undefined, string | null>;
  upstream_cache_id: ColumnType<string | null, string | null | undefined, never>;
  /** The name of the cache at another Gradient. */
  remote_cache: ColumnType<string | null, string | null | undefined, never>;
  /** Sealed. */
  api_key: ColumnType<Uint8Array | null, Uint8Array | null | undefined, Uint8Array | null>;
  created_at: ColumnType<Date, Date | undefined, never>;
}
export type CacheUpstreamRow = Selectable<CacheUpstreamTable>;

/** An upstream's narinfo; where `found` is false the other columns are null, or what it said before. */
export interface UpstreamPathTable {
  upstream_id: string;
  /** The 32 characters of the store path's hash. */
  hash: string;
  found: boolean;
  /** Base name. */
  store_path: string | null;
  /** As the upstream wrote it: relative to its address, or absolute. */
  url: string | null;
  compression: string | null;
  /** Of the file as the upstream keeps it. */
  file_hash: Uint8Array | null;
  file_hash_algorithm: Generated<string>;
  file_size: number | null;
  nar_hash: Uint8Array | null;
  nar_size: number | null;
  /** Base names. */
  references: string[] | null;
  deriver: string | null;
  ca: string | null;
  signatures: string[] | null;
  /** By one of the upstream's keys. Else its content address alone speaks for it. */
  signed: Generated<boolean>;
  seen_at: Generated<Date>;
}
export type UpstreamPathRow = Selectable<UpstreamPathTable>;

/** How an upstream answered within an hour. */
export interface UpstreamMetricTable {
  upstream_id: string;
  hour: Date;
  requests: number;
  /** Of all requests together. */
  latency_ms: number;
  hits: number;
  misses: number;
  failures: number;
}
