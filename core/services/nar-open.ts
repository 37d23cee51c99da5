import { type BlockStream, isBlockStream } from "../lib/block-stream.ts";
import { equalBytes } from "../lib/bytes.ts";
import type { ByteStream } from "../lib/streams.ts";
import type { Blob, BlobStore, ByteRange } from "../ports/blob-store.ts";
import type { Hasher } from "../ports/hasher.ts";
import type { Nar } from "./nar.ts";
import { type NarDamageDeps, reportDamage } from "./nar-damage.ts";
import { ProvenBody } from "./proven-body.ts";

export interface NarOpenDeps extends NarDamageDeps {
  readonly blobs: BlobStore;
  readonly hasher: Hasher;
}

/** The stored bytes are not what was stored; the NAR is out of service already. */
export class NarDamagedError extends Error {
  override readonly name = "NarDamagedError";
}

/**
 * The whole stored file, hashed as it is read: its last chunk is held back until the hash of all of it was right, else
 * `NarDamagedError` comes in its place. So a file of one chunk is proven before its first byte is given out. What was
 * proven so not long ago and was not written to since is given out as it is. Null when the object is missing or has
 * another size; the NAR is taken out of service then.
 */
export async function openNar(deps: NarOpenDeps, nar: Nar): Promise<ByteStream | null> {
  const blob = await openSound(deps, nar);
  if (!blob) return null;
  const { body, imprint } = blob;
  return imprint !== undefined && deps.proofs?.stands(nar, imprint) ? body : hashed(deps, nar, blob);
}

/** The same for bytes that are kept: hashed whatever was proven, for somebody may write to the file just now. */
export async function openNarAnew(deps: NarOpenDeps, nar: Nar): Promise<ByteStream | null> {
  const blob = await openSound(deps, nar);
  return blob && hashed(deps, nar, blob);
}

function hashed(deps: NarOpenDeps, nar: Nar, { body, imprint }: Blob): ByteStream {
  return isBlockStream(body) ? provenBlocks(deps, nar, { body, imprint }) : provenBody(deps, nar, { body, imprint });
}

/** A part of the stored file. Only the object's size is proven: the hash belongs to the whole. */
export async function openNarRange(deps: NarOpenDeps, nar: Nar, range: ByteRange): Promise<ByteStream | null> {
  // A store takes no range that reaches beyond its object, as this one would where the object is too short.
  if (!(await isNarStored(deps, nar))) return null;
  const blob = await openSound(deps, nar, range);
  return blob?.body ?? null;
}

/** Whether the object is there in its full size. When it is not, the NAR is taken out of service. */
export async function isNarStored(deps: NarOpenDeps, nar: Nar): Promise<boolean> {
  return await hasRightSize(deps, nar, await deps.blobs.head(nar.objectKey));
}

async function openSound(deps: NarOpenDeps, nar: Nar, range?: ByteRange): Promise<Blob | null> {
  const blob = await deps.blobs.get(nar.objectKey, range);
  if (await hasRightSize(deps, nar, blob)) return blob;
  await blob?.discard();
  return null;
}

async function hasRightSize(deps: NarOpenDeps, nar: Nar, object: { readonly size: number } | null): Promise<boolean> {
  if (object?.size === nar.fileSize) return true;
  await reportDamage(
    deps,
    nar,
    object
      ? { fault: "size", message: `the object has ${object.size} bytes, not ${nar.fileSize}` }
      : { fault: "missing", message: "the object is missing" },
  );
  return false;
}

interface Unproven<Body extends ByteStream> {
  readonly body: Body;
  readonly imprint: string | undefined;
}

async function* provenBody(
  deps: NarOpenDeps,
  nar: Nar,
  { body, imprint }: Unproven<ByteStream>,
): AsyncGenerator<Uint8Array> {
  const hash = deps.hasher.sha256();
  let size = 0;
  let held: Uint8Array | null = null;
  for await (const chunk of body) {
    hash.update(chunk);
    size += chunk.length;
    if (held) yield held;
    held = chunk;
  }
  await prove(deps, nar, { size, digest: hash.digest(), imprint });
  if (held) yield held;
}

function provenBlocks(deps: NarOpenDeps, nar: Nar, { body, imprint }: Unproven<BlockStream>): BlockStream {
  const hash = deps.hasher.sha256({ reused: true });
  const proveAll = (size: number) => prove(deps, nar, { size, digest: hash.digest(), imprint });
  return new ProvenBody(body, { size: nar.fileSize, hash, prove: proveAll });
}

async function prove(
  deps: NarOpenDeps,
  nar: Nar,
  read: { readonly size: number; readonly digest: Uint8Array; readonly imprint: string | undefined },
): Promise<void> {
  const isRight = read.size === nar.fileSize && equalBytes(read.digest, nar.fileHash.digest);
  if (isRight) return deps.proofs?.proven(nar, read.imprint);
  const message = "the object's bytes do not have the hash they were stored with";
  await reportDamage(deps, nar, { fault: "file_hash", message });
  throw new NarDamagedError(`the object ${nar.objectKey} is damaged`);
}
