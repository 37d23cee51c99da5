import { serverName } from "../domain/server-name.ts";
import { fromUtf8, utf8 } from "../lib/bytes.ts";
import { formatPublicKey, formatSecretKey, generateKeyPair, parseSecretKey, type SecretKey } from "../nix/signature.ts";
import type { ServiceDeps } from "./deps.ts";
import { SecretBoxError } from "./secret-box.ts";

const PLACE = { table: "cache", column: "secret_key" };

/** A fresh signing key for a cache: named `<host of the serve URL>-<name>`, the secret half sealed for the row. */
export async function makeCacheKey(
  { secrets, settings }: Pick<ServiceDeps, "secrets" | "settings">,
  cacheId: string,
  name: string,
): Promise<{ readonly public_key: string; readonly secret_key: Uint8Array }> {
  const pair = await generateKeyPair(`${serverName(settings.serveUrl)}-${name}`);
  const sealed = await secrets.seal({ ...PLACE, id: cacheId }, utf8(formatSecretKey(pair.secretKey)));
  return { public_key: formatPublicKey(pair.publicKey), secret_key: sealed };
}

/** Opens what `makeCacheKey` sealed. Throws `SecretBoxError` when it does not open or holds no key. */
export async function openCacheKey(
  { secrets }: Pick<ServiceDeps, "secrets">,
  cache: { readonly id: string; readonly secret_key: Uint8Array },
): Promise<SecretKey> {
  const key = parseSecretKey(fromUtf8(await secrets.open({ ...PLACE, id: cache.id }, cache.secret_key)));
  if (!key) throw new SecretBoxError(`the signing key of cache ${cache.id} has a form that is not known`);
  return key;
}
