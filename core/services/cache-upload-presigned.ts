import type { CompleteBody, PresignedView } from "../api/caches-uploads.ts";
import { zonedTime } from "../api/times.ts";
import {
  findNarUpload,
  insertNarUpload,
  type NarUpload,
  touchNarUpload,
  UploadKind,
  type UploadOf,
} from "../db/nar-uploads.ts";
import type { NewNar } from "../db/nars.ts";
import { DomainError } from "../errors.ts";
import { HOUR } from "../lib/clock.ts";
import { uuidV7 } from "../lib/ids.ts";
import { type ByteStream, peek } from "../lib/streams.ts";
import type { Blob, PresignedAccess } from "../ports/blob-store.ts";
import { type Pusher, sendNar, type UploadDeps } from "./cache-upload.ts";
import { dropNarUpload, ofPath, requireRoom, sendOrDrop, stagedFileKey } from "./cache-upload-parts.ts";
import type { DescribedUpload } from "./cache-upload-paths.ts";
import { checkedNar, refused } from "./nar-check.ts";
import { compressionOf, START_BYTES } from "./nar-compression.ts";
import { drain, storedForm } from "./nar-form.ts";
import { narKey, newNar, storeObject } from "./nar-receive.ts";

const URL_LIFETIME_MS = HOUR;
/** Large enough that a file of 512 MB has 32 parts, small enough that a part is over soon. */
const PART_BYTES = 16 * 1024 * 1024;

/**
 * Begins an upload straight into the server's storage, or gives new URLs for one that was begun and not completed. The
 * key that they write to is in staging, and nobody reads it but this server.
 */
export async function beginPresigned(
  deps: UploadDeps,
  pusher: Pusher,
  hash: string,
  fileSize: number,
): Promise<PresignedView> {
  const access = requirePresigned(deps);
  if (fileSize > deps.narUploadBytesMax) {
    throw new DomainError("payload_too_large", `a file of more than ${deps.narUploadBytesMax} bytes is not taken`);
  }
  const of = { ...pusher, hash, kind: UploadKind.Storage };
  const begun = await findNarUpload(deps.db, of);
  const goesOn = begun?.fileSize === fileSize && !(await deps.blobs.head(stagedFileKey(begun.id)));
  const upload = goesOn ? begun : await begin(deps, of, { fileSize, begun });
  await touchNarUpload(deps.db, upload.id);
  const key = stagedFileKey(upload.id);
  const name = upload.storageUpload as string;
  const parts = partsOf(access, fileSize).map(async (part) => ({
    ...part,
    url: await access.partUrl(key, { upload: name, ...part }, URL_LIFETIME_MS),
  }));
  return {
    parts: await Promise.all(parts),
    expires_at: zonedTime(new Date(deps.clock.now() + URL_LIFETIME_MS)),
  };
}

/**
 * Takes the file that came into the storage: reads it through once, proves it, and gives it a key that no URL was made
 * for. The URLs lead nowhere then. Throws `conflict` while a part is missing.
 */
export async function finishPresigned(
  deps: UploadDeps,
  pusher: Pusher,
  { described, parts }: { readonly described: DescribedUpload; readonly parts: CompleteBody["parts"] },
): Promise<void> {
  const access = requirePresigned(deps);
  const upload = await findNarUpload(deps.db, ofPath(pusher, described.path.storePath, UploadKind.Storage));
  // Proven by an earlier call, or never begun: the offer decides.
  if (!upload) return;
  const key = stagedFileKey(upload.id);
  const ordered = [...parts].sort((a, b) => a.number - b.number);
  const finished = await access.finishParts(key, upload.storageUpload as string, ordered);
  // Not finished now, but maybe before a crash.
  if (!finished && !(await deps.blobs.head(key))) {
    throw new DomainError("conflict", "Not every part of the file has come: send them all, then complete the upload");
  }
  await sendOrDrop(deps, upload, async () => {
    const { fileHash } = described;
    const store = () => proven(deps, { upload, described });
    await sendNar(deps, pusher, { store, ...(fileHash && { fileHash }) });
  });
}

export async function dropPresigned(deps: UploadDeps, pusher: Pusher, hash: string): Promise<void> {
  const upload = await findNarUpload(deps.db, { ...pusher, hash, kind: UploadKind.Storage });
  if (upload) await dropNarUpload(deps, upload);
}

async function begin(
  deps: UploadDeps,
  of: UploadOf,
  { fileSize, begun }: { readonly fileSize: number; readonly begun: NarUpload | undefined },
): Promise<NarUpload> {
  if (begun) await dropNarUpload(deps, begun);
  else await requireRoom(deps, of);
  const id = uuidV7(deps.clock.now(), deps.random);
  const storageUpload = await requirePresigned(deps).beginParts(stagedFileKey(id));
  const upload = { id, fileSize, storageUpload };
  if (await insertNarUpload(deps.db, of, upload)) return { ...upload, received: 0 };
  // Somebody else began it at the same moment.
  await deps.blobs.presigned?.dropParts(stagedFileKey(id), storageUpload);
  throw new DomainError("conflict", "This upload is being begun by another request: try again");
}

interface Finished {
  readonly upload: NarUpload;
  readonly described: DescribedUpload;
}

/** The object, durable, proven, and under a key of its own. */
async function proven(deps: UploadDeps, { upload, described }: Finished): Promise<NewNar> {
  const key = stagedFileKey(upload.id);
  const blob = await deps.blobs.get(key);
  if (!blob) throw lost();
  if (blob.size !== (described.fileSize ?? upload.fileSize)) {
    await blob.discard();
    throw refused(`the file has ${blob.size} bytes, announced were ${described.fileSize ?? upload.fileSize}`);
  }
  const { narHash, narSize } = described.path;
  const facts = { narHash, narSize, ...(described.fileHash && { fileHash: described.fileHash }) };
  const { start, body } = await peek(blob.body, START_BYTES);
  const compression = compressionOf(start);
  // What becomes another file is stored as it is read; what stays is read, and copied where it lies.
  if (compression !== "zstd") return await storeObject(deps, { ...facts, compression, body });
  const check = (nar: ByteStream) => checkedNar(deps.hasher, nar, facts);
  const form = storedForm(deps, { ...facts, compression, body, check });
  await drain(form.body);
  const copyKey = narKey(deps, narHash.digest);
  if (!(await deps.blobs.copy(key, copyKey, versionOf(blob)))) throw lost();
  return newNar({ narHash: narHash.digest, narSize, file: form.facts(), key: copyKey });
}

function versionOf({ version }: Blob): string | undefined {
  return version;
}

function partsOf(
  { partBytesMin, partBytesMax, partsMax }: PresignedAccess,
  fileSize: number,
): { readonly number: number; readonly size: number }[] {
  const wanted = Math.max(PART_BYTES, partBytesMin, Math.ceil(fileSize / partsMax));
  const partBytes = Math.min(wanted, partBytesMax);
  return Array.from({ length: Math.ceil(fileSize / partBytes) }, (_, index) => ({
    number: index + 1,
    size: Math.min(partBytes, fileSize - index * partBytes),
  }));
}

function requirePresigned({ blobs }: UploadDeps): PresignedAccess {
  if (blobs.presigned) return blobs.presigned;
  throw new DomainError(
    "unprocessable_entity",
    "This server's storage takes no files by itself: send the file in parts to `/chunk`",
  );
}

function lost(): DomainError {
  return new DomainError("conflict", "The uploaded file is not there any more, or has changed: send it again");
}
