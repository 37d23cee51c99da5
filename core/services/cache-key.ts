import type { SealedKey } from "../db/cache-keys.ts";
import { serverName } from "../domain/server-name.ts";
import { fromUtf8, utf8 } from "../lib/bytes.ts";
import {
  formatPublicKey,
  formatSecretKey,
  generateKeyPair,
  parseSecretKey,
  publicKeyOf,
  type SecretKey,
} from "../nix/signature.ts";
import type { ServiceDeps } from "./deps.ts";
import { SecretBoxError } from "./secret-box.ts";

/** Where a cache's only key was once: first keys, which have their cache's id, go on opening. */
const PLACE = { table: "cache", column: "secret_key" };

/** The halves of a key as its row has them. */
export interface CacheKeyHalves {
  readonly public_key: string;
  readonly secret_key: Uint8Array;
}

/** A fresh first key for a cache, whose id it gets: named `<host of the serve URL>-<name>`, sealed for its row. */
export async function makeCacheKey(
  deps: Pick<ServiceDeps, "secrets" | "settings">,
  cacheId: string,
  name: string,
): Promise<CacheKeyHalves> {
  const { secretKey } = await generateKeyPair(cacheKeyName(deps, name));
  return await sealCacheKey(deps, cacheId, secretKey);
}

/** What the first key of a cache is called. */
export function cacheKeyName({ settings }: Pick<ServiceDeps, "settings">, cacheName: string): string {
  return `${serverName(settings.serveUrl)}-${cacheName}`;
}

/** `id` is the key's. */
export async function sealCacheKey(
  { secrets }: Pick<ServiceDeps, "secrets">,
  id: string,
  key: SecretKey,
): Promise<CacheKeyHalves> {
  const secret_key = await secrets.seal({ ...PLACE, id }, utf8(formatSecretKey(key)));
  return { public_key: formatPublicKey(publicKeyOf(key)), secret_key };
}

/** Opens what `sealCacheKey` sealed. Throws `SecretBoxError` when it does not open or holds no key. */
export async function openCacheKey(
  { secrets }: Pick<ServiceDeps, "secrets">,
  { id, secret_key }: SealedKey,
): Promise<SecretKey> {
  const key = parseSecretKey(fromUtf8(await secrets.open({ ...PLACE, id }, secret_key)));
  if (!key) throw new SecretBoxError(`the signing key ${id} of a cache has a form that is not known`);
  return key;
}
