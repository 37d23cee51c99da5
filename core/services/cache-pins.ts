import type { PinBody, PinView } from "../api/caches-retention.ts";
import { naiveTime } from "../api/times.ts";
import {
  countPins,
  deletePin,
  holdPathToPin,
  insertPinRevision,
  listPins,
  nextPinRevision,
  type PinRevision,
} from "../db/pins.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { requireCache } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";
import { requirePathHash } from "./path-hash.ts";

type PinDeps = Pick<ServiceDeps, "db" | "clock" | "random">;

const NAME = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$/;
/** They come without pages. */
const PINS_MAX = 1_000;

/** The newest revision of each pin. */
export async function listCachePins(deps: Pick<PinDeps, "db">, actor: Actor, cacheName: string): Promise<PinView[]> {
  const { cache, member } = await requireCache(deps, actor, cacheName, "read");
  const pins = await listPins(deps.db, cache.id, { name: null, limit: PINS_MAX });
  return pins.map((pin) => viewPin(pin, member));
}

/** All revisions of one pin that are kept, the newest first. */
export async function listPinRevisions(
  deps: Pick<PinDeps, "db">,
  actor: Actor,
  { cacheName, name }: { readonly cacheName: string; readonly name: string },
): Promise<PinView[]> {
  const { cache, member } = await requireCache(deps, actor, cacheName, "read");
  const revisions = NAME.test(name) ? await listPins(deps.db, cache.id, { name, limit: PINS_MAX }) : [];
  if (revisions.length === 0) throw noPin();
  return revisions.map((pin) => viewPin(pin, member));
}

/**
 * Gives the name to a path of the cache, which stays from now on with everything that it refers to. What had the name
 * before stays too, for as many revisions as the pin keeps. Answers the number of the revision.
 */
export async function pinPath(
  deps: PinDeps,
  actor: Actor,
  { cacheName, name }: { readonly cacheName: string; readonly name: string },
  body: PinBody,
): Promise<{ readonly name: string; readonly revision: number }> {
  const { cache } = await requireCache(deps, actor, cacheName, "writeStore");
  if (!NAME.test(name)) {
    throw new DomainError("invalid_name", "name must be 1 to 100 letters, digits or any of `._+-`, the first no sign");
  }
  const hash = requirePathHash(body.store_path, "store_path");
  const { id: createdBy } = requireUser(actor);
  const pin = { id: uuidV7(deps.clock.now(), deps.random), cacheId: cache.id, name };
  return await inTransaction(
    deps.db,
    async (trx) => {
      const storePath = await holdPathToPin(trx, { cacheId: cache.id, hash });
      if (storePath === undefined) {
        throw new DomainError("unprocessable_entity", "store_path: the cache has no such path: upload it first");
      }
      const { id, revision } = await nextPinRevision(trx, { ...pin, keepRevisions: body.keep_revisions ?? null });
      if (revision === 1 && (await countPins(trx, cache.id)) > PINS_MAX) {
        throw new DomainError("conflict", `A cache has at most ${PINS_MAX} pins: remove one that is not needed`);
      }
      await insertPinRevision(trx, {
        pin_id: id,
        revision,
        cache_id: cache.id,
        hash,
        store_path: storePath,
        created_by: createdBy,
      });
      return { name, revision };
    },
    deps,
  );
}

/** Takes the pin away, or one of its older revisions. What it kept goes when nothing else keeps it. */
export async function unpin(
  deps: Pick<PinDeps, "db">,
  actor: Actor,
  {
    cacheName,
    name,
    revision,
  }: { readonly cacheName: string; readonly name: string; readonly revision: number | null },
): Promise<void> {
  const { cache } = await requireCache(deps, actor, cacheName, "writeStore");
  if (NAME.test(name) && (await deletePin(deps.db, { cacheId: cache.id, name, revision }))) return;
  if (revision === null) throw noPin();
  throw new DomainError("not_found", "The pin has no such older revision; the newest one goes with the pin itself");
}

/** Who uses a public cache need not know who its people are. */
function viewPin({ created_at, created_by, store_path, ...pin }: PinRevision, member: boolean): PinView {
  const createdBy = member ? created_by : null;
  return { ...pin, store_path: `/nix/store/${store_path}`, created_by: createdBy, created_at: naiveTime(created_at) };
}

function noPin(): DomainError {
  return new DomainError("not_found", "Pin not found");
}
