import type { Kysely } from "kysely";
import { findSigningCache, insertRealisations, listRealisations } from "../db/realisations.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { DomainError } from "../errors.ts";
import {
  formatRealisationId,
  parseRealisation,
  parseRealisationId,
  printRealisation,
  type Realisation,
  type RealisationKey,
  signRealisation,
} from "../nix/realisation.ts";
import { storePathBaseName } from "../nix/store-path.ts";
import { storedPath } from "./cache-path.ts";
import { type SecretKeyOf, withoutNames } from "./cache-sign.ts";
import { type Pusher, presentPaths, type UploadDeps } from "./cache-upload.ts";

export interface RealisationLookupDeps {
  readonly db: Kysely<Database>;
  readonly secretKeyOf: SecretKeyOf;
}

/**
 * The `.doi` file of an output, signed with the cache's keys of now. Null when the cache does not know where the output
 * is, or does not offer that path. Dependents that it cannot tell the same of are left out: Nix asks for each.
 */
export async function lookUpRealisation(
  { db, secretKeyOf }: RealisationLookupDeps,
  cacheId: string,
  key: RealisationKey,
): Promise<string | null> {
  const [row] = await listRealisations(db, { cacheIds: [cacheId], keys: [key] });
  const cache = row && (await findSigningCache(db, cacheId));
  if (!row || !cache) return null;
  const keys = row.dependents.flatMap((id) => parseRealisationId(id) ?? []);
  const dependents = await listRealisations(db, { cacheIds: [cacheId], keys });
  const realisation: Realisation = {
    ...key,
    outPath: storedPath(row.store_path),
    dependents: dependents.map(({ hash, output, store_path }) => ({ hash, output, outPath: storedPath(store_path) })),
    // Of another text, where dependents are left out: they do no harm, and help whoever trusts only them otherwise.
    signatures: withoutNames(row.signatures, cache.keyNames),
  };
  const own = await Promise.all(cache.keys.map(async (key) => signRealisation(await secretKeyOf(key), realisation)));
  return printRealisation({ ...realisation, signatures: [...own.flat(), ...realisation.signatures] });
}

/**
 * Records what the stock client puts beside the paths that it has copied. What the cache says of the output already
 * stays. Throws `unprocessable_entity` for what is no realisation of this name, and for one whose path the cache does
 * not offer.
 */
export async function putRealisation(
  deps: UploadDeps,
  pusher: Pusher,
  { key, text }: { readonly key: RealisationKey; readonly text: string },
): Promise<void> {
  const realisation = parseRealisation(text);
  if (!realisation) throw new DomainError("unprocessable_entity", "the body is no realisation");
  const [id, name] = [formatRealisationId(realisation), formatRealisationId(key)];
  if (id !== name) throw new DomainError("unprocessable_entity", `the realisation is of ${id}, which is not ${name}`);
  const { outPath, dependents, signatures } = realisation;
  const present = await presentPaths(deps, pusher, [{ storePath: outPath }]);
  if (!present.has(outPath)) {
    throw new DomainError("unprocessable_entity", `${outPath} is not in this cache: upload it first`);
  }
  const row = {
    ...key,
    store_path: storePathBaseName(outPath),
    dependents: dependents.map(formatRealisationId),
    signatures: [...signatures],
  };
  await inTransaction(deps.db, (trx) => insertRealisations(trx, [pusher.cacheId], [row]), deps);
}
