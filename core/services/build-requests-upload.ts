import type { Transaction } from "kysely";
import type { BuildOrder, DispatchView } from "../api/build-requests.ts";
import type { Database } from "../db/schema.ts";
import {
  addSourcePart,
  countSourceUploads,
  deleteSourceUpload,
  findSourceUpload,
  listSourceParts,
  lockSourceUpload,
} from "../db/source-uploads.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { ByteStream } from "../lib/streams.ts";
import { requireRequester } from "./build-requests.ts";
import type { BuildRequestDeps } from "./build-requests-deps.ts";
import { buildSource, checkOrder, type SourceToBuild } from "./build-requests-dispatch.ts";
import { sourceTooLarge, storeSource } from "./source-store.ts";

/** Uploads that one person may have open. */
const UPLOADS_MAX = 16;
const PARTS_MAX = 10_000;

/** A whole source as one NAR. */
export async function buildSentSource(
  deps: BuildRequestDeps,
  actor: Actor,
  {
    organization,
    order,
    nar,
  }: {
    readonly organization: string;
    readonly order: BuildOrder;
    readonly nar: ByteStream;
  },
): Promise<DispatchView> {
  const { organization: owner } = await requireRequester(deps, actor, organization);
  checkOrder(deps, order);
  const key = stagingKey(deps, "whole");
  await deps.blobs.put(key, limited(nar, deps.sourceBytesMax));
  try {
    return await build(deps, actor, { organizationId: owner.id, order, keys: [key] });
  } finally {
    await deps.blobs.delete(key);
  }
}

/** The offset is not where the upload stands. `received` is. */
export class WrongOffsetError extends DomainError {
  readonly received: number;

  constructor(offset: number, received: number) {
    super("conflict", `The upload has ${received} bytes: go on there, not at ${offset}`);
    this.received = received;
  }
}

/**
 * Takes the next part of a NAR; the id is the client's own choice, and its first part begins at 0. Answers how many
 * bytes there are now, all of them durable. Throws `WrongOffsetError` and takes nothing for a part that does not join
 * on; a part that was answered late is one.
 */
export async function receiveSourcePart(
  deps: BuildRequestDeps,
  actor: Actor,
  uploadId: string,
  { offset, body }: { readonly offset: number; readonly body: ByteStream },
): Promise<number> {
  const { id: userId } = requireUser(actor);
  const before = await findSourceUpload(deps.db, uploadId);
  if (before) requireOwner(before.userId, userId);
  else if ((await countSourceUploads(deps.db, userId)) >= UPLOADS_MAX) throw tooManyUploads();
  const received = before?.received ?? 0;
  if (offset !== received) throw new WrongOffsetError(offset, received);

  const objectKey = stagingKey(deps, uploadId);
  const { size } = await deps.blobs.put(objectKey, limited(body, deps.sourceBytesMax - offset));
  try {
    if (size === 0) throw new DomainError("bad_request", "The part is empty");
    await inTransaction(
      deps.db,
      async (trx) => {
        const upload = await lockSourceUpload(trx, { id: uploadId, userId, uploadsMax: UPLOADS_MAX });
        if (!upload) throw tooManyUploads();
        requireOwner(upload.userId, userId);
        if (upload.received !== offset) throw new WrongOffsetError(offset, upload.received);
        if ((await listSourceParts(trx, uploadId)).length >= PARTS_MAX) throw tooManyParts();
        await addSourcePart(trx, { uploadId, start: offset, length: size, objectKey });
      },
      deps,
    );
  } catch (error) {
    if (error instanceof DomainError) await deps.blobs.delete(objectKey);
    throw error;
  }
  return offset + size;
}

/** Has the uploaded source evaluated and built; the upload is gone then, so that of two who ask for it one is late. */
export async function finishSourceUpload(
  deps: BuildRequestDeps,
  actor: Actor,
  uploadId: string,
  { organization, order }: { readonly organization: string; readonly order: BuildOrder },
): Promise<DispatchView> {
  const { organization: owner } = await requireRequester(deps, actor, organization);
  checkOrder(deps, order);
  const upload = await findSourceUpload(deps.db, uploadId);
  requireOwner(upload?.userId, requireUser(actor).id);
  const keys = await listSourceParts(deps.db, uploadId);
  if (keys.length === 0) throw new DomainError("not_found", "Upload not found");
  const taken = async (trx: Transaction<Database>) => {
    const gone = await deleteSourceUpload(trx, uploadId);
    if (gone.length === 0)
      throw new DomainError("conflict", "The upload was finished already: upload the source again");
  };
  const view = await build(deps, actor, { organizationId: owner.id, order, keys, taken });
  for (const key of keys) await deps.blobs.delete(key);
  return view;
}

/** Rows first: an object that is left over is nobody's. */
export async function dropSourceUpload(
  { db, blobs }: Pick<BuildRequestDeps, "db" | "blobs">,
  uploadId: string,
): Promise<void> {
  for (const key of await deleteSourceUpload(db, uploadId)) await blobs.delete(key);
}

async function build(
  deps: BuildRequestDeps,
  actor: Actor,
  {
    organizationId,
    order,
    keys,
    taken = async () => {},
  }: {
    readonly organizationId: string;
    readonly order: BuildOrder;
    readonly keys: readonly string[];
    readonly taken?: SourceToBuild["taken"];
  },
): Promise<DispatchView> {
  const nar = { open: () => joined(deps, keys), bytesMax: deps.sourceBytesMax };
  const path = await storeSource(deps, organizationId, nar);
  return await buildSource(deps, actor, { organizationId, path, order, taken });
}

async function* joined({ blobs }: BuildRequestDeps, keys: readonly string[]): ByteStream {
  for (const key of keys) {
    const blob = await blobs.get(key);
    if (!blob) throw new DomainError("conflict", "A part of the upload was lost: upload the source again");
    yield* blob.body;
  }
}

async function* limited(body: ByteStream, bytesMax: number): ByteStream {
  let size = 0;
  for await (const bytes of body) {
    size += bytes.length;
    if (size > bytesMax) throw sourceTooLarge(bytesMax);
    yield bytes;
  }
}

function tooManyUploads(): DomainError {
  return new DomainError("too_many_requests", `You have ${UPLOADS_MAX} uploads open: end one of them first`);
}

function tooManyParts(): DomainError {
  return new DomainError("bad_request", `The upload has ${PARTS_MAX} parts: begin anew with larger ones`);
}

function requireOwner(ownerId: string | undefined, userId: string): void {
  if (ownerId !== userId) throw new DomainError("not_found", "Upload not found");
}

function stagingKey({ clock, random }: BuildRequestDeps, uploadId: string): string {
  return `staging/${uploadId}/${uuidV7(clock.now(), random)}`;
}
