import type { Kysely } from "kysely";
import type { ProvenWorker } from "../db/attempts.ts";
import type { Database } from "../db/schema.ts";
import { isCacheKeyName, recordSigningKey } from "../db/worker-keys.ts";
import { fingerprint, type PublicKey, parsePublicKey, type SignedFacts, verify } from "../nix/signature.ts";

/** What a worker that signs announced, once it may be used. */
export interface WorkerKey {
  readonly text: string;
  readonly key: PublicKey;
}

/**
 * Takes the keys that a worker announced: its organizations see them from now on, with spaces between, as nix.conf
 * takes them. Refused, with the reason, is what is no key, and one that bears the name of a cache's key: signatures of
 * both in one narinfo would pass for each other's.
 */
export async function acceptSigningKeys(
  db: Kysely<Database>,
  worker: ProvenWorker,
  texts: readonly string[],
): Promise<{ readonly accepted: readonly WorkerKey[]; readonly refused: readonly string[] }> {
  const accepted: WorkerKey[] = [];
  const refused: string[] = [];
  for (const text of texts) {
    const key = parsePublicKey(text);
    if (!key) refused.push("it is not of the form name:base64 of an Ed25519 key");
    else if (await isCacheKeyName(db, key.name)) refused.push(`the name ${key.name} is that of a cache's key`);
    else accepted.push({ text, key });
  }
  if (accepted.length > 0) await recordSigningKey(db, worker, accepted.map(({ text }) => text).join(" "));
  return { accepted, refused };
}

/** Those of the signatures that one of the keys has made of these facts. */
export async function verifiedSignatures(
  keys: readonly WorkerKey[],
  facts: SignedFacts,
  signatures: readonly string[],
): Promise<string[]> {
  const signed = fingerprint(facts);
  const verified: string[] = [];
  for (const signature of signatures) {
    for (const { key } of keys) {
      // Its name says whose it is: a relay's many keys cost no more than one.
      if (!signature.startsWith(`${key.name}:`) || !(await verify(key, signed, signature))) continue;
      verified.push(signature);
      break;
    }
  }
  return verified;
}
