import { type CacheLogRow, listCacheLogs } from "../db/cache-logs.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import type { ByteStream } from "../lib/streams.ts";
import { type StorePath, storePathBaseName, storePathHash } from "../nix/store-path.ts";
import { requireOrganizationOf } from "./access.ts";
import { type LogReadDeps, readLogBytes } from "./build-logs-read.ts";
import { openPushedLog } from "./cache-log-push.ts";

/** The log of a build whose output a cache has, or one that was pushed. */
export interface CacheLog {
  /** Of the attempt, or of the pushed log: it does not change any more. */
  readonly id: string;
  readonly bytes: number;
  /** Everybody may read it. */
  readonly public: boolean;
  /** Throws where it was lost. */
  read(range: { readonly start: number; readonly end: number }): ByteStream;
}

/** Organizations that built the same; whoever may read none of these reads nothing. */
const ORGANIZATIONS_MAX = 20;

/**
 * The log of the newest successful build of a derivation, among the organizations whose builds the actor may see: logs
 * hold more than the outputs do. Else the one that was pushed. Null when there is none; that the actor may read the
 * cache was decided before.
 */
export async function lookUpCacheLog(
  deps: LogReadDeps,
  actor: Actor,
  { cacheId, derivation }: { readonly cacheId: string; readonly derivation: StorePath },
): Promise<CacheLog | null> {
  const rows = await listCacheLogs(deps.db, {
    cacheId,
    derivation: storePathBaseName(derivation),
    userId: actor.user?.id ?? null,
    limit: ORGANIZATIONS_MAX,
  });
  for (const row of rows) {
    if (!(await mayRead(deps, actor, row))) continue;
    const { attempt_id: id, log_bytes: bytes, organization_public: isPublic } = row;
    return { id, bytes, public: isPublic, read: (range) => bytesOf(deps, id, range) };
  }
  const pushed = await openPushedLog(deps, { cacheId, derivation });
  if (!pushed) return null;
  // One that was taken away and pushed anew is another. Whoever reads the cache may read it.
  const id = `pushed-${storePathHash(derivation)}-${pushed.pushedAt.getTime()}`;
  return { id, public: true, bytes: pushed.bytes, read: pushed.read };
}

async function mayRead(deps: LogReadDeps, actor: Actor, row: CacheLogRow): Promise<boolean> {
  try {
    await requireOrganizationOf(deps, actor, row.organization_id, "read", "Build");
    return true;
  } catch (error) {
    if (error instanceof DomainError) return false;
    throw error;
  }
}

async function* bytesOf(
  deps: LogReadDeps,
  attemptId: string,
  range: { readonly start: number; readonly end: number },
): AsyncGenerator<Uint8Array> {
  for await (const { bytes } of readLogBytes(deps, attemptId, range)) yield bytes;
}
