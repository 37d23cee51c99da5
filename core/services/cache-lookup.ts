import type { Kysely } from "kysely";
import { findPathWithNar, findServedCache, listPathsWithNar, type PathWithNar } from "../db/cache-paths.ts";
import { findServedNar } from "../db/nars.ts";
import type { Database } from "../db/schema.ts";
import { DomainError } from "../errors.ts";
import type { Bytes } from "../lib/bytes.ts";
import { GroupQueues, QueueFullError } from "../lib/group-queue.ts";
import { printNarInfo } from "../nix/narinfo.ts";
import type { StorePath } from "../nix/store-path.ts";
import { narInfoOf, storedPath } from "./cache-path.ts";
import { type Nar, narOf } from "./nar.ts";

export interface CacheLookupDeps {
  readonly db: Kysely<Database>;
}

/** A named cache as its HTTP surface knows it. */
export interface ServedCache {
  readonly id: string;
  readonly name: string;
  readonly public: boolean;
  /** Lower is asked first. */
  readonly priority: number;
  /** For clients of the operator's own networks; null is the same for all. */
  readonly localPriority: number | null;
}

/** Null for a cache that does not exist, is inactive, or is an organization's internal store. */
export async function lookUpCache({ db }: CacheLookupDeps, name: string): Promise<ServedCache | null> {
  const row = await findServedCache(db, name);
  if (!row?.active) return null;
  return { id: row.id, name, public: row.public, priority: row.priority, localPriority: row.local_priority || null };
}

/** A narinfo, and the object that it leads to. */
export interface FoundNarInfo {
  readonly text: string;
  /** SHA-256 of the stored file. */
  readonly fileHash: Uint8Array;
  readonly objectKey: string;
}

/** Of one cache at a time. */
const PATHS_MAX = 500;
const WAITING_MAX = 10_000;

/** Nix asks for dozens at a time: one query answers all that came while the one before was under way. */
export class NarInfoLookUp {
  readonly #paths: GroupQueues<string, PathWithNar | undefined>;

  constructor({ db }: CacheLookupDeps) {
    this.#paths = new GroupQueues({
      handle: async (cacheId, hashes) => {
        const [hash] = hashes;
        // PostgreSQL keeps one plan for all single paths; for a list of unknown length it makes one each time.
        if (hash !== undefined && hashes.length === 1) return [await findPathWithNar(db, { cacheId, hash })];
        const rows = await listPathsWithNar(db, { cacheIds: [cacheId], hashes });
        const byHash = new Map(rows.map((row) => [row.hash, row]));
        return hashes.map((hash) => byHash.get(hash));
      },
      concernsAll: () => true,
      groupMax: PATHS_MAX,
      waitingMax: WAITING_MAX,
    });
  }

  /** Null when the cache does not name the path or its NAR is damaged. */
  async find({ cacheId, hash }: { readonly cacheId: string; readonly hash: string }): Promise<FoundNarInfo | null> {
    const row = await this.#paths.add(cacheId, hash).catch((error: unknown) => {
      if (!(error instanceof QueueFullError)) throw error;
      throw new DomainError("service_unavailable", "too many narinfos are looked up", { cause: error });
    });
    return row ? { text: printNarInfo(narInfoOf(row)), fileHash: row.file_hash, objectKey: row.object_key } : null;
  }
}

/** A path of the cache and the NAR it is served from. Null as for `NarInfoLookUp`. */
export async function lookUpPath(
  { db }: CacheLookupDeps,
  path: { readonly cacheId: string; readonly hash: string },
): Promise<{ readonly storePath: StorePath; readonly nar: Nar } | null> {
  const row = await findPathWithNar(db, path);
  return row ? { storePath: storedPath(row.store_path), nar: narOf(row) } : null;
}

export interface ServedNar {
  readonly nar: Nar;
  /** Of one of the cache's paths that are served from it. */
  readonly pathHash: string;
}

/** What a file name of this cache leads to, also when it was stored anew since. Null as for `NarInfoLookUp`. */
export async function lookUpNar(
  { db }: CacheLookupDeps,
  file: { readonly cacheId: string; readonly fileHash: Bytes },
): Promise<ServedNar | null> {
  const row = await findServedNar(db, file);
  return row ? { nar: narOf(row), pathHash: row.path_hash } : null;
}
