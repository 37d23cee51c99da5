import type { IntegrityView, TaskStartedView, VerifyBody } from "../api/admin-tasks.ts";
import { naiveTime } from "../api/times.ts";
import { findServedCache } from "../db/cache-paths.ts";
import { listDamages, readIntegrityCounts, readIntegrityFigures } from "../db/nar-repairs.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { formatHash } from "../nix/hash.ts";
import { requireSuperuser } from "./admin.ts";
import { requestTask } from "./admin-tasks.ts";
import type { ServiceDeps } from "./deps.ts";
import type { VerifyParameters } from "./integrity-verify.ts";
import { sha256Of } from "./nar.ts";

type Deps = Pick<ServiceDeps, "db" | "clock" | "random" | "notifier">;

const DAMAGES_SHOWN = 100;

/** Reads everything that is stored, or what one cache offers, and takes out of service what is damaged. */
export async function requestVerify(deps: Deps, actor: Actor, body: VerifyBody): Promise<TaskStartedView> {
  requireSuperuser(actor);
  const parameters: VerifyParameters = {
    cache_id: body.cache === undefined ? null : await requireCacheId(deps, body.cache),
    unpack: body.unpack,
    repair: body.repair,
    bytes_per_second: body.bytes_per_second ?? null,
  };
  return await requestTask(deps, actor, { kind: "verify", parameters: { ...parameters } });
}

/** Tries to repair everything that is damaged now, without waiting for its turn. */
export async function requestRepair(deps: Deps, actor: Actor): Promise<TaskStartedView> {
  return await requestTask(deps, actor, { kind: "repair", parameters: {} });
}

/** How old the knowledge of what is stored is, and what was found. */
export async function showIntegrity({ db }: Pick<Deps, "db">, actor: Actor): Promise<IntegrityView> {
  requireSuperuser(actor);
  const { oldest_verified_at, oldest_unpacked_at, rows_checked_at, nars, bytes, damaged } =
    await readIntegrityFigures(db);
  const damages = await listDamages(db, DAMAGES_SHOWN);
  return {
    nars: Number(nars),
    bytes,
    damaged: Number(damaged),
    oldest_verified_at: oldest_verified_at && naiveTime(oldest_verified_at),
    oldest_unpacked_at: oldest_unpacked_at && naiveTime(oldest_unpacked_at),
    rows_checked_at: rows_checked_at && naiveTime(rows_checked_at),
    counts: await readIntegrityCounts(db),
    damages: damages.map((row) => ({
      nar_hash: formatHash(sha256Of(row.nar_hash), "nix32"),
      object: row.object_key,
      fault: row.fault,
      message: row.message,
      found_at: naiveTime(row.found_at),
      state: stateOf(row),
      attempts: row.attempts,
      problem: row.problem,
      repaired_at: row.healed_at && naiveTime(row.healed_at),
      repaired_by: row.healed_by,
    })),
  };
}

function stateOf(row: {
  readonly healed_at: Date | null;
  readonly removed: boolean;
}): "damaged" | "repaired" | "removed" {
  if (row.healed_at) return "repaired";
  return row.removed ? "removed" : "damaged";
}

async function requireCacheId({ db }: Deps, name: string): Promise<string> {
  const cache = await findServedCache(db, name);
  if (!cache) throw new DomainError("not_found", "Cache not found");
  return cache.id;
}
