import type { Kysely } from "kysely";
import type { NewNar } from "../db/nars.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Bytes, equalBytes, toHex } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import { type RandomBytes, uuidV7 } from "../lib/ids.ts";
import { type ByteStream, readAhead, streamOf } from "../lib/streams.ts";
import { encodeBase32 } from "../nix/base32.ts";
import type { Hash } from "../nix/hash.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import type { Codec, Compression } from "../ports/codec.ts";
import type { Hasher } from "../ports/hasher.ts";
import type { Logger } from "../ports/logger.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { Nar } from "./nar.ts";
import { checkedNar } from "./nar-check.ts";
import { drain, type FileForm, storedForm, wholeForm } from "./nar-form.ts";
import { recordNars, settleRecorded } from "./nar-record.ts";

export interface NarReceiveDeps {
  readonly db: Kysely<Database>;
  readonly blobs: BlobStore;
  readonly codec: Codec;
  readonly hasher: Hasher;
  readonly notifier: Notifier;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: RandomBytes;
}

export interface NarUpload {
  /** SHA-256 of the NAR, and its size in bytes: what the body must unpack to. */
  readonly narHash: Hash;
  readonly narSize: number;
  /** Of the file as it comes, where the sender said it: a difference tells damage on the way from a wrong NAR. */
  readonly fileHash?: Hash;
  readonly compression: Compression;
  readonly body: ByteStream;
}

/** NARs up to this size are proven in one go. */
const AT_ONCE_BYTES_MAX = 64 * 1024;

/**
 * Stores one NAR, reading the body once in constant memory: a zstd file stays as it came, anything else becomes zstd.
 * Throws `DomainError` (`unprocessable_entity`, `unsupported_media_type`) when the body is not what was announced, and
 * passes on what the body or the store throws; then nothing of it can be seen.
 *
 * Where the process may die, and what is true then:
 *
 * - while the object is written: the store shows nothing under its key;
 * - object durable, no row yet: no row names the object, so nobody is offered it; it stays until the sweep;
 * - row committed: the NAR is stored and proven. Nobody is offered it before a path names it (`commitPaths`);
 * - before a superfluous object is deleted (this one, or the damaged one it replaced): no row names it, as above.
 */
export async function receiveNar(deps: NarReceiveDeps, upload: NarUpload): Promise<Nar> {
  const candidate = await storeObject(deps, upload);
  // When it is unknown whether the commit happened, the object may be named already: it is not deleted then.
  const recorded = await inTransaction(deps.db, (trx) => recordNars(trx, [candidate]), deps);
  await settleRecorded(deps, recorded);
  return recorded.nars.get(toHex(upload.narHash.digest)) as Nar;
}

/**
 * The first half of `receiveNar`: the object is durable and proven, and no row names it. The caller records it
 * (`recordNars`) or deletes it.
 */
export async function storeObject(deps: NarReceiveDeps, upload: NarUpload): Promise<NewNar> {
  const { narHash, narSize } = upload;
  const key = narKey(deps, narHash.digest);
  const form = await quickForm(deps, upload);
  await deps.blobs.put(key, form.body);
  return newNar({ narHash: narHash.digest, narSize, file: form.facts(), key });
}

/** A key that no object has had. */
export function narKey({ clock, random }: Pick<NarReceiveDeps, "clock" | "random">, narHash: Uint8Array): string {
  return `nar/${encodeBase32(narHash)}/${uuidV7(clock.now(), random)}`;
}

export interface StoredObject {
  readonly narHash: Bytes;
  readonly narSize: number;
  readonly file: { readonly hash: Bytes; readonly size: number };
  readonly key: string;
}

export function newNar({ narHash, narSize, file, key }: StoredObject): NewNar {
  return {
    nar_hash: narHash,
    nar_size: narSize,
    file_hash: file.hash,
    file_size: file.size,
    compression: "zstd",
    object_key: key,
  };
}

/**
 * The file to store. A small one is looked at in one go, which costs a tenth; where anything about it is not plainly
 * right, it takes the way of all others.
 */
async function quickForm(deps: NarReceiveDeps, upload: NarUpload): Promise<FileForm> {
  const { codec, hasher } = deps;
  const isSmall = upload.narSize <= AT_ONCE_BYTES_MAX && upload.compression === "zstd";
  const check = (nar: ByteStream) => checkedNar(hasher, nar, upload);
  if (!codec.unpackZstdAtOnce || !isSmall) return storedForm(deps, { ...upload, check });
  const begun = await readAhead(upload.body, 2 * AT_ONCE_BYTES_MAX);
  if ("rest" in begun) return storedForm(deps, { ...upload, check, body: begun.rest });
  const { whole } = begun;
  const nar = codec.unpackZstdAtOnce(whole, upload.narSize);
  const isRight = nar !== null && (await isRightNar(hasher, nar, upload)) && isRightFile(hasher, whole, upload);
  return isRight ? wholeForm(deps, whole) : storedForm(deps, { ...upload, check, body: streamOf(whole) });
}

async function isRightNar(hasher: Hasher, nar: Uint8Array, upload: NarUpload): Promise<boolean> {
  try {
    await drain(checkedNar(hasher, streamOf(nar), upload));
    return true;
  } catch {
    return false;
  }
}

function isRightFile(hasher: Hasher, file: Uint8Array, { fileHash }: NarUpload): boolean {
  if (!fileHash) return true;
  const hash = hasher.sha256();
  hash.update(file);
  return equalBytes(hash.digest(), fileHash.digest);
}
