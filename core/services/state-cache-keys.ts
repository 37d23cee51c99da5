import type { StateCache } from "../api/state.ts";
import { insertKey, KeyState, listKeys, listTakenNames, lockKeysOfCache, setKeyState } from "../db/cache-keys.ts";
import { fromBase64 } from "../lib/bytes.ts";
import { formatPublicKey, parseSecretKey, publicKeyOf, type SecretKey } from "../nix/signature.ts";
import { cacheKeyName, sealCacheKey } from "./cache-key.ts";
import type { StateContext } from "./state-context.ts";
import { secretNames } from "./state-secrets.ts";

const SECRET_KEY_BYTES = 64;

/** Reads base64 of 64 bytes, or the same behind `name:`; `name` is what a key without one is called. Null otherwise. */
export function parseSigningKey(text: string, name: string): SecretKey | null {
  if (text.includes(":")) return parseSecretKey(text);
  return fromBase64(text)?.length === SECRET_KEY_BYTES ? parseSecretKey(`${name}:${text}`) : null;
}

/** Null where the file names none. */
export function declaredKey(context: StateContext, cache: StateCache): SecretKey | null {
  const text = context.secret(cache.signing_key_file, secretNames.signingKey(cache.name));
  return text === null ? null : parseSigningKey(text, cacheKeyName(context.deps, cache.name));
}

/**
 * The cache signs with the declared key and no other. What it signed with before is retired: its signatures are taken
 * out, and the new one's put in, in the background. False when it is so already.
 */
export async function reconcileCacheKey(context: StateContext, cache: StateCache, cacheId: string): Promise<boolean> {
  const declared = declaredKey(context, cache);
  if (!declared) return false;
  const { trx, deps } = context;
  await lockKeysOfCache(trx, cacheId);
  const keys = await listKeys(trx, cacheId);
  const bytes = (publicKey: string) => publicKey.slice(publicKey.indexOf(":") + 1);
  const wanted = bytes(formatPublicKey(publicKeyOf(declared)));
  // A server that moved to another host signs under the name that its clients know.
  const present = keys.find(({ public_key }) => bytes(public_key) === wanted);
  const others = keys.filter((key) => key !== present && key.state === KeyState.Signing);
  if (present?.state === KeyState.Signing && others.length === 0) return false;
  for (const { id } of others) await setKeyState(trx, id, KeyState.Retiring);
  if (present) {
    if (present.state !== KeyState.Signing) await setKeyState(trx, present.id, KeyState.Signing);
    return true;
  }
  const id = context.newId();
  const name = await freeKeyName(context, declared.name);
  await insertKey(trx, { id, cache_id: cacheId, ...(await sealCacheKey(deps, id, { ...declared, name })) });
  return true;
}

/** Another key may be called so: clients could not tell the two apart. */
async function freeKeyName({ trx }: StateContext, name: string): Promise<string> {
  for (let number = 1; ; number++) {
    const candidate = number === 1 ? name : `${name}.${number}`;
    if ((await listTakenNames(trx, [candidate])).length === 0) return candidate;
  }
}
