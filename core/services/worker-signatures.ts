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
 * Takes the key that a worker announced: its organizations see it from now on. Null, with the reason, for what is no
 * key, and for one that bears the name of a cache's key: signatures of both in one narinfo would pass for each other's.
 */
export async function acceptSigningKey(
  db: Kysely<Database>,
  worker: ProvenWorker,
  text: string,
): Promise<WorkerKey | { readonly refused: string }> {
  const key = parsePublicKey(text);
  if (!key) return { refused: "it is not of the form name:base64 of an Ed25519 key" };
  if (await isCacheKeyName(db, key.name)) return { refused: `the name ${key.name} is that of a cache's key` };
  await recordSigningKey(db, worker, text);
  return { text, key };
}

/** Those of the signatures that the key has made of these facts. */
export async function verifiedSignatures(
  { key }: WorkerKey,
  facts: SignedFacts,
  signatures: readonly string[],
): Promise<string[]> {
  const signed = fingerprint(facts);
  const verified: string[] = [];
  for (const signature of signatures) if (await verify(key, signed, signature)) verified.push(signature);
  return verified;
}
