import type { Kysely } from "kysely";
import { listPathsWithNar } from "../db/cache-paths.ts";
import type { Database } from "../db/schema.ts";
import { type FoundUpstreamPath, listRecordedPaths } from "../db/upstream-paths.ts";
import type { HashAlgorithm } from "../nix/hash.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import { storePathBaseName, storePathHash } from "../nix/store-path.ts";
import { narInfoOf, storedPath } from "./cache-path.ts";
import { narOf, sha256Of } from "./nar.ts";
import type { InternalPath, InternalUpstream, RemotePath, RemoteUpstream, UpstreamQuestion } from "./upstream.ts";
import type { SeenPath } from "./upstream-probe.ts";

/** A narinfo of an upstream as it is kept. */
export function recordOf(upstreamId: string, { info, signed }: SeenPath): FoundUpstreamPath {
  return {
    upstream_id: upstreamId,
    hash: storePathHash(info.storePath),
    store_path: storePathBaseName(info.storePath),
    url: info.url,
    compression: info.compression,
    file_hash: info.fileHash?.digest ?? null,
    file_hash_algorithm: info.fileHash?.algorithm ?? "sha256",
    file_size: info.fileSize,
    nar_hash: info.narHash.digest,
    nar_size: info.narSize,
    references: info.references.map(storePathBaseName),
    deriver: info.deriver && storePathBaseName(info.deriver),
    ca: info.ca,
    signatures: [...info.signatures],
    signed,
  };
}

function narInfoOfRecord(row: FoundUpstreamPath): NarInfo {
  return {
    storePath: storedPath(row.store_path),
    url: row.url,
    compression: row.compression,
    fileHash: row.file_hash && { ...sha256Of(row.file_hash), algorithm: row.file_hash_algorithm as HashAlgorithm },
    fileSize: row.file_size,
    narHash: sha256Of(row.nar_hash),
    narSize: row.nar_size,
    references: row.references.map(storedPath),
    deriver: row.deriver === null ? null : storedPath(row.deriver),
    signatures: row.signatures ?? [],
    ca: row.ca,
  };
}

export interface RecordedAnswers {
  /** The first upstream that was heard to have it. */
  readonly hit: RemotePath | null;
  readonly unasked: readonly RemoteUpstream[];
}

/** Of each question to which something is recorded that still counts. */
export async function recordedAnswers(
  db: Kysely<Database>,
  upstreams: readonly RemoteUpstream[],
  questions: readonly UpstreamQuestion[],
): Promise<Map<UpstreamQuestion, RecordedAnswers>> {
  if (upstreams.length === 0 || questions.length === 0) return new Map();
  const rows = await listRecordedPaths(db, {
    upstreamIds: upstreams.map(({ id }) => id),
    hashes: questions.map(({ hash }) => hash),
  });
  const byHash = Map.groupBy(rows, ({ hash }) => hash);
  return new Map(
    questions.flatMap((question) => {
      const known = new Map(byHash.get(question.hash)?.map((row) => [row.upstream_id, row]));
      if (known.size === 0) return [];
      const isIt = ({ id }: RemoteUpstream) => {
        const row = known.get(id);
        return row?.found === true && isAnswer(question, row.store_path);
      };
      const upstream = upstreams.find(isIt);
      const row = upstream && (known.get(upstream.id) as FoundUpstreamPath);
      const hit = upstream && row ? { upstream, info: narInfoOfRecord(row), signed: row.signed, nar: null } : null;
      return [[question, { hit, unasked: upstreams.filter(({ id }) => !known.has(id)) }]];
    }),
  );
}

/** What other caches of this server hold now: nothing of it is recorded. */
export async function internalAnswers(
  db: Kysely<Database>,
  upstreams: readonly InternalUpstream[],
  questions: readonly UpstreamQuestion[],
): Promise<Map<UpstreamQuestion, InternalPath>> {
  if (upstreams.length === 0) return new Map();
  const rows = await listPathsWithNar(db, {
    cacheIds: upstreams.map(({ sourceId }) => sourceId),
    hashes: questions.map(({ hash }) => hash),
  });
  const byHash = Map.groupBy(rows, ({ hash }) => hash);
  return new Map(
    questions.flatMap((question) => {
      const known = byHash.get(question.hash)?.filter((row) => isAnswer(question, row.store_path)) ?? [];
      const upstream = upstreams.find(({ sourceId }) => known.some((row) => row.cache_id === sourceId));
      const row = known.find((one) => one.cache_id === upstream?.sourceId);
      return upstream && row ? [[question, { upstream, info: narInfoOf(row), nar: narOf(row) }]] : [];
    }),
  );
}

function isAnswer({ path }: UpstreamQuestion, baseName: string | null): boolean {
  return path === null || baseName === storePathBaseName(path);
}
