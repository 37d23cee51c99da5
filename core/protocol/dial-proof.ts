import * as v from "valibot";
import { type Bytes, fromBase64, toBase64, utf8 } from "../lib/bytes.ts";
import { Count, list, Uuid, WorkerId } from "./fields.ts";

/** Organizations that one dialled worker works for. */
export const DIALLED_PEERS_MAX = 64;
/** What a server may ask a worker to spend on one token: three times what the server itself uses. */
const MEMORY_KIB_MAX = 65_536;
const PASSES_MAX = 4;
const LANES_MAX = 4;
const NONCE_BYTES = 32;

const base64 = (bytesMin: number, bytesMax: number): v.GenericSchema<string> =>
  v.pipe(
    v.string(),
    v.maxLength(4 * Math.ceil(bytesMax / 3)),
    v.check((text) => {
      const bytes = fromBase64(text);
      return bytes !== null && bytes.length >= bytesMin && bytes.length <= bytesMax;
    }, "not base64 of the right length"),
  );
const Nonce = base64(NONCE_BYTES, NONCE_BYTES);
const Proof = base64(32, 32);

/** How a worker's token becomes the key that both ends know: as the registration keeps it (RFC 9106). */
export const KeyParameters = v.strictObject({
  algorithm: v.literal("argon2id"),
  salt: base64(8, 64),
  memory_kib: v.pipe(Count, v.minValue(8), v.maxValue(MEMORY_KIB_MAX)),
  passes: v.pipe(Count, v.minValue(1), v.maxValue(PASSES_MAX)),
  lanes: v.pipe(Count, v.minValue(1), v.maxValue(LANES_MAX)),
});
export type KeyParameters = v.InferOutput<typeof KeyParameters>;

/** The first message of a dialled session, of the worker: whoever dialled has to prove that it is a server. */
export const ServerChallenge = v.strictObject({ type: v.literal("server_challenge"), version: Count, nonce: Nonce });
export type ServerChallenge = v.InferOutput<typeof ServerChallenge>;

/** The answer: for each organization that the worker shall work for, the proof that its token's hash is known. */
export const ServerProof = v.strictObject({
  type: v.literal("server_proof"),
  worker_id: WorkerId,
  nonce: Nonce,
  peers: list(v.strictObject({ peer: Uuid, key: KeyParameters, proof: Proof }), DIALLED_PEERS_MAX),
});
export type ServerProof = v.InferOutput<typeof ServerProof>;

/** What both ends of one dialled session know, and no other session has. */
export interface DialContext {
  readonly workerId: string;
  readonly workerNonce: string;
  readonly serverNonce: string;
}

/** HMAC-SHA-256 under the key of one organization's token. The two roles' proofs differ: none can be sent back. */
export async function proveKnowledge(
  key: Bytes,
  role: "server" | "worker",
  { peer, context }: { readonly peer: string; readonly context: DialContext },
): Promise<string> {
  const { workerId, workerNonce, serverNonce } = context;
  const text = ["gradient dialled session", role, workerId, peer, workerNonce, serverNonce].join("\n");
  const hmac = { name: "HMAC", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", key, hmac, false, ["sign"]);
  return toBase64(new Uint8Array(await crypto.subtle.sign(hmac.name, imported, utf8(text))));
}

/** Takes as long for proofs that differ early as for those that differ late. */
export function isSameProof(a: string, b: string): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < Math.min(a.length, b.length); i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}

/**
 * A token's hash in PHC form (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`) as parameters and key. Null for any other, and
 * for one that costs more than a worker would spend.
 */
export function readTokenHash(phc: string): { readonly parameters: KeyParameters; readonly key: Bytes } | null {
  const match = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/.exec(phc);
  if (!match) return null;
  const [, memory, passes, lanes, salt = "", hash = ""] = match;
  const parameters = {
    algorithm: "argon2id",
    salt: padded(salt),
    memory_kib: Number(memory),
    passes: Number(passes),
    lanes: Number(lanes),
  };
  const key = fromBase64(padded(hash));
  return key?.length === 32 && v.is(KeyParameters, parameters) ? { parameters, key } : null;
}

/** PHC leaves the padding out. */
function padded(text: string): string {
  return text.padEnd(4 * Math.ceil(text.length / 4), "=");
}
