import type { Kysely, Transaction } from "kysely";
import type { CacheKeyView } from "../api/caches-keys.ts";
import { naiveTime } from "../api/times.ts";
import {
  countUnwalked,
  deleteRetiredKey,
  findNewestKey,
  insertKey,
  KeyState,
  type ListedKey,
  listKeys,
  listTakenNames,
  lockKeysOfCache,
  setKeyState,
} from "../db/cache-keys.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import type { Actor } from "../domain/actor.ts";
import type { AuditEvent } from "../domain/audit-events.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import {
  formatSecretKey,
  generateKeyPair,
  KeyMismatchError,
  parseSecretKey,
  type SecretKey,
  sign,
} from "../nix/signature.ts";
import { requireCache } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import { cacheKeyName, openCacheKey, sealCacheKey } from "./cache-key.ts";
import type { ServiceDeps } from "./deps.ts";

type KeyDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "secrets" | "settings" | "notifier">;

/** Each is a signature of every path, and a line of every narinfo. */
const SIGNING_MAX = 4;
/** With those that are retired. */
const KEYS_MAX = 32;
const STATE_NAMES = ["signing", "retiring", "retired"] as const;

/** The oldest first. */
export async function listCacheKeys(
  { db }: Pick<KeyDeps, "db">,
  actor: Actor,
  cacheName: string,
): Promise<CacheKeyView[]> {
  const { cache } = await requireCache({ db }, actor, cacheName, "read");
  return await Promise.all((await listKeys(db, cache.id)).map((key) => viewKey(db, key)));
}

/** The newest secret key that signs, as Nix reads it from a file. */
export async function exportCacheKey(
  deps: Pick<KeyDeps, "db" | "secrets">,
  actor: Actor,
  cacheName: string,
): Promise<string> {
  const { cache } = await requireCache(deps, actor, cacheName, "manageCacheKeys");
  const key = await findNewestKey(deps.db, cache.id);
  if (!key) throw noKey();
  const text = formatSecretKey(await openCacheKey(deps, key));
  await record(deps.db, actor, cache, "cache.key.export", key.id);
  return text;
}

/** A new key beside those there are: it signs what comes from now on, and in the background what is there. */
export async function rotateCacheKey(deps: KeyDeps, actor: Actor, cacheName: string): Promise<CacheKeyView> {
  const { cache } = await requireCache(deps, actor, cacheName, "manageCacheKeys", { unmanaged: true });
  const name = await freeName(deps, cacheName);
  const { secretKey } = await generateKeyPair(name);
  return await addKey(deps, actor, cache, secretKey);
}

/** As `rotateCacheKey`, with a key that was made elsewhere. One that is retired signs again. */
export async function importCacheKey(
  deps: KeyDeps,
  actor: Actor,
  cacheName: string,
  text: string,
): Promise<CacheKeyView> {
  const { cache } = await requireCache(deps, actor, cacheName, "manageCacheKeys", { unmanaged: true });
  return await addKey(deps, actor, cache, await requireSecretKey(text));
}

/**
 * From now on the key signs nothing, and its signatures are taken out in the background. Throws `conflict` for the last
 * key that signs and, without `force`, while no other key has signed every path: its clients would lose some.
 */
export async function retireCacheKey(
  deps: KeyDeps,
  actor: Actor,
  { cacheName, id, force }: { readonly cacheName: string; readonly id: string; readonly force: boolean },
): Promise<CacheKeyView> {
  const { cache } = await requireCache(deps, actor, cacheName, "manageCacheKeys", { unmanaged: true });
  return await changeKeys(deps, cache.id, async (trx, keys) => {
    const key = keys.find((one) => one.id === id);
    if (!key) throw noKey();
    if (key.state !== KeyState.Signing) throw new DomainError("conflict", "The key is retired already");
    const others = keys.filter((one) => one.id !== id && one.state === KeyState.Signing);
    if (others.length === 0) {
      throw new DomainError(
        "conflict",
        "It is the only key that signs: rotate first, and let clients trust the new one",
      );
    }
    if (!force && others.every(({ walked_to }) => walked_to !== null)) {
      throw new DomainError("conflict", "No other key has signed every path yet: wait, or retire it with `force`");
    }
    await setKeyState(trx, id, KeyState.Retiring);
    await record(trx, actor, cache, "cache.key.retire", id);
    return id;
  });
}

/** With its secret half. Throws `conflict` for a key that is not retired, or still has signatures. */
export async function forgetCacheKey(
  deps: KeyDeps,
  actor: Actor,
  { cacheName, id }: { readonly cacheName: string; readonly id: string },
): Promise<void> {
  const { cache } = await requireCache(deps, actor, cacheName, "manageCacheKeys", { unmanaged: true });
  await inTransaction(
    deps.db,
    async (trx) => {
      await lockKeysOfCache(trx, cache.id);
      if (!(await listKeys(trx, cache.id)).some((key) => key.id === id)) throw noKey();
      if (!(await deleteRetiredKey(trx, id))) {
        throw new DomainError("conflict", "The key is not retired: retire it, and wait until its signatures are gone");
      }
      await record(trx, actor, cache, "cache.key.delete", id);
    },
    deps,
  );
}

/** Whoever may make a cache sign under this key calls it: it asks for no permission. */
async function addKey(
  deps: KeyDeps,
  actor: Actor,
  cache: { readonly id: string; readonly name: string },
  secretKey: SecretKey,
): Promise<CacheKeyView> {
  const id = uuidV7(deps.clock.now(), deps.random);
  const halves = await sealCacheKey(deps, id, secretKey);
  return await changeKeys(deps, cache.id, async (trx, keys) => {
    const known = keys.find(({ name }) => name === secretKey.name);
    if (known && (known.public_key !== halves.public_key || known.state === KeyState.Signing)) {
      throw new DomainError("already_exists", `The cache has a key called ${secretKey.name} already`);
    }
    if (keys.filter(({ state }) => state === KeyState.Signing).length >= SIGNING_MAX) {
      throw new DomainError("conflict", `At most ${SIGNING_MAX} keys of a cache sign: retire one`);
    }
    if (known) await setKeyState(trx, known.id, KeyState.Signing);
    else if (keys.length < KEYS_MAX) await insertKey(trx, { id, cache_id: cache.id, ...halves });
    else throw new DomainError("conflict", `A cache has at most ${KEYS_MAX} keys: delete one that is retired`);
    await record(trx, actor, cache, "cache.key.create", known?.id ?? id);
    return known?.id ?? id;
  });
}

async function record(
  db: Kysely<Database>,
  actor: Actor,
  cache: { readonly id: string; readonly name: string },
  event: AuditEvent,
  keyId: string,
): Promise<void> {
  const metadata = { cache: cache.name, key_id: keyId };
  await recordAudit(db, { ...auditAuthor(actor), event, cacheId: cache.id, metadata });
}

/** No commit signs meanwhile, so what is in the cache was signed by the keys that were there before. */
async function changeKeys(
  deps: KeyDeps,
  cacheId: string,
  change: (trx: Transaction<Database>, keys: readonly ListedKey[]) => Promise<string>,
): Promise<CacheKeyView> {
  const id = await inTransaction(
    deps.db,
    async (trx) => {
      if (!(await lockKeysOfCache(trx, cacheId))) throw new DomainError("not_found", "Cache not found");
      return await change(trx, await listKeys(trx, cacheId));
    },
    deps,
  );
  // What is signed when it is asked for is signed anew.
  deps.notifier.notify("path", `${cacheId}/`);
  const changed = (await listKeys(deps.db, cacheId)).find((key) => key.id === id);
  if (!changed) throw noKey();
  return await viewKey(deps.db, changed);
}

/** A dot is in no name of a cache: the second key of one is never called as the first of another. */
async function freeName(deps: KeyDeps, cacheName: string): Promise<string> {
  const base = cacheKeyName(deps, cacheName);
  for (let first = 2; ; first += KEYS_MAX) {
    const names = Array.from({ length: KEYS_MAX }, (_, index) => `${base}.${first + index}`);
    const taken = new Set(await listTakenNames(deps.db, names));
    const free = names.find((name) => !taken.has(name));
    if (free !== undefined) return free;
  }
}

async function requireSecretKey(text: string): Promise<SecretKey> {
  const key = parseSecretKey(text.trim());
  if (!key) {
    const form = "`name:base64` of 64 bytes, as `nix-store --generate-binary-cache-key` writes it";
    throw new DomainError("validation", `secret_key: must be ${form}`);
  }
  try {
    await sign(key, "");
  } catch (error) {
    if (!(error instanceof KeyMismatchError)) throw error;
    throw new DomainError("validation", "secret_key: its two halves do not belong together", { cause: error });
  }
  return key;
}

async function viewKey(db: Kysely<Database>, key: ListedKey): Promise<CacheKeyView> {
  return {
    id: key.id,
    name: key.name,
    public_key: key.public_key,
    state: STATE_NAMES[key.state] ?? "retired",
    remaining_paths: await countUnwalked(db, key),
    created_at: naiveTime(key.created_at),
    retired_at: key.retired_at && naiveTime(key.retired_at),
  };
}

function noKey(): DomainError {
  return new DomainError("not_found", "Key not found");
}
