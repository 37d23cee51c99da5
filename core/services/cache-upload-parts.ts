import {
  addNarUploadPart,
  countNarUploads,
  deleteNarUpload,
  findNarUpload,
  listNarUploadParts,
  lockNarUpload,
  type NarUpload,
  UploadKind,
  type UploadOf,
} from "../db/nar-uploads.ts";
import { inTransaction } from "../db/transaction.ts";
import { DomainError, type ErrorCode } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { ByteStream } from "../lib/streams.ts";
import { type StorePath, storePathHash } from "../nix/store-path.ts";
import { WrongOffsetError } from "./build-requests-upload.ts";
import { type Pusher, presentPaths, sendNar, type UploadDeps } from "./cache-upload.ts";
import type { DescribedUpload } from "./cache-upload-paths.ts";
import { refused } from "./nar-check.ts";
import { discardObject } from "./nar-record.ts";
import { storeRecognized } from "./nar-stage.ts";

/** What one request may bring of a file: through most proxies it is over within their time limits. */
export const CHUNK_BYTES_MAX: number = 64 * 1024 * 1024;
/** Uploads that one person may have open. */
const UPLOADS_MAX = 256;
const PARTS_MAX = 10_000;
/** The same bytes would be refused again: the upload begins anew. */
const HOPELESS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "unprocessable_entity",
  "unsupported_media_type",
  "payload_too_large",
  "conflict",
]);

export interface IncomingChunk {
  readonly offset: number;
  readonly body: ByteStream;
}

/**
 * Takes the next part of a path's NAR file, which begins at 0. Answers how many bytes there are now, all of them
 * durable: a client whose server died goes on there. Throws `WrongOffsetError` and takes nothing for a part that does
 * not join on; `payload_too_large`.
 */
export async function receiveChunk(
  deps: UploadDeps,
  pusher: Pusher,
  hash: string,
  { offset, body }: IncomingChunk,
): Promise<number> {
  const of = { ...pusher, hash, kind: UploadKind.Server };
  const before = await findNarUpload(deps.db, of);
  if (!before) await requireRoom(deps, pusher);
  const received = before?.received ?? 0;
  if (offset !== received) throw new WrongOffsetError(offset, received);

  const id = before?.id ?? uuidV7(deps.clock.now(), deps.random);
  const objectKey = `staging/${id}/${uuidV7(deps.clock.now(), deps.random)}`;
  const rest = limited(body, deps.narUploadBytesMax - offset);
  const { size } = await deps.uploadPlaces.run(pusher.userId, () => deps.blobs.put(objectKey, rest));
  try {
    if (size === 0) throw new DomainError("bad_request", "The part is empty");
    await inTransaction(
      deps.db,
      async (trx) => {
        const upload = await lockNarUpload(trx, of, id);
        if (upload.received !== offset) throw new WrongOffsetError(offset, upload.received);
        if ((await listNarUploadParts(trx, upload.id)).length >= PARTS_MAX) throw tooManyParts();
        await addNarUploadPart(trx, { uploadId: upload.id, start: offset, length: size, objectKey });
      },
      deps,
    );
  } catch (error) {
    // Of any other error it is not known whether the row is there.
    if (error instanceof DomainError) await discardObject(deps, objectKey);
    throw error;
  }
  return offset + size;
}

/** How many bytes of the path's NAR file have come. */
export async function receivedBytes({ db }: Pick<UploadDeps, "db">, pusher: Pusher, hash: string): Promise<number> {
  return (await findNarUpload(db, { ...pusher, hash, kind: UploadKind.Server }))?.received ?? 0;
}

/** Proves what came in parts. The NAR waits for a path to name it then, and the parts are gone. */
export async function finishChunks(deps: UploadDeps, pusher: Pusher, described: DescribedUpload): Promise<void> {
  const upload = await findNarUpload(deps.db, ofPath(pusher, described.path.storePath, UploadKind.Server));
  // Proven by an earlier call, sent in another way, or never: the offer decides.
  if (!upload) return;
  if (described.fileSize !== null && upload.received !== described.fileSize) {
    throw refused(`${upload.received} bytes of the file's ${described.fileSize} have come: send the others first`);
  }
  const keys = await listNarUploadParts(deps.db, upload.id);
  await sendOrDrop(deps, upload, async () => {
    const { narHash, narSize } = described.path;
    const facts = { narHash, narSize, ...(described.fileHash && { fileHash: described.fileHash }) };
    await sendNar(deps, pusher, {
      ...facts,
      store: () => storeRecognized(deps, { ...facts, body: joined(deps, keys) }),
    });
  });
}

/** Forgets what came of a path that is there by now; true when it is. */
export async function dropIfPresent(deps: UploadDeps, pusher: Pusher, storePath: StorePath): Promise<boolean> {
  if ((await presentPaths(deps, pusher, [{ storePath }])).size === 0) return false;
  for (const kind of Object.values(UploadKind)) {
    const upload = await findNarUpload(deps.db, ofPath(pusher, storePath, kind));
    if (upload) await dropNarUpload(deps, upload);
  }
  return true;
}

/** Runs what makes a NAR of an upload; the upload is gone then, also when it can never become one. */
export async function sendOrDrop(deps: UploadDeps, upload: NarUpload, send: () => Promise<void>): Promise<void> {
  try {
    await send();
  } catch (error) {
    if (error instanceof DomainError && HOPELESS.has(error.code)) await dropNarUpload(deps, upload);
    throw error;
  }
  await dropNarUpload(deps, upload);
}

/** Rows first: an object that is left over is nobody's. */
export async function dropNarUpload(
  deps: Pick<UploadDeps, "db" | "blobs" | "log">,
  { id, storageUpload }: Pick<NarUpload, "id" | "storageUpload">,
): Promise<void> {
  const keys = await deleteNarUpload(deps.db, id);
  if (storageUpload !== null) {
    await deps.blobs.presigned?.dropParts(stagedFileKey(id), storageUpload);
    keys.push(stagedFileKey(id));
  }
  for (const key of keys) await discardObject(deps, key);
}

/** Where the storage puts a file that comes straight to it. */
export function stagedFileKey(uploadId: string): string {
  return `staging/${uploadId}/file`;
}

export function ofPath(pusher: Pusher, storePath: StorePath, kind: UploadKind): UploadOf {
  return { ...pusher, hash: storePathHash(storePath), kind };
}

export async function requireRoom({ db }: Pick<UploadDeps, "db">, { userId }: Pusher): Promise<void> {
  if ((await countNarUploads(db, userId)) < UPLOADS_MAX) return;
  throw new DomainError("too_many_requests", `You have ${UPLOADS_MAX} uploads open: end one of them first`);
}

async function* joined({ blobs }: UploadDeps, keys: readonly string[]): ByteStream {
  for (const key of keys) {
    const blob = await blobs.get(key);
    if (!blob) throw new DomainError("conflict", "A part of the upload was lost: send the file again");
    yield* blob.body;
  }
}

async function* limited(body: ByteStream, bytesMax: number): ByteStream {
  let size = 0;
  for await (const bytes of body) {
    size += bytes.length;
    if (size > bytesMax) {
      throw new DomainError("payload_too_large", `the file is larger than this server takes, by more than this part`);
    }
    yield bytes;
  }
}

function tooManyParts(): DomainError {
  return new DomainError("bad_request", `The upload has ${PARTS_MAX} parts: begin anew with larger ones`);
}
