import type { BlobsView, ManifestBody, ManifestView } from "../api/build-requests.ts";
import {
  countMissingBlobs,
  findBuildRequest,
  findRequestedSize,
  insertBuildRequest,
  listMissingBlobs,
} from "../db/build-requests.ts";
import { insertSourceBlob, useSourceBlob } from "../db/source-blobs.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { orderSourceFiles } from "../domain/source-tree.ts";
import { DomainError } from "../errors.ts";
import { equalBytes, fromHex, toHex } from "../lib/bytes.ts";
import { HOUR } from "../lib/clock.ts";
import { isUuid, uuidV7 } from "../lib/ids.ts";
import { type ByteStream, collect, LimitExceededError, streamOf } from "../lib/streams.ts";
import { type OrganizationAccess, requireOrganization, requireOrganizationOf } from "./access.ts";
import type { BuildRequestDeps } from "./build-requests-deps.ts";
import { sourceTooLarge } from "./source-store.ts";

const LIFETIME_MS: number = HOUR;

/** By name or id, when the actor may have builds made for it. */
export async function requireRequester(
  deps: BuildRequestDeps,
  actor: Actor,
  organization: string,
): Promise<OrganizationAccess> {
  return isUuid(organization)
    ? await requireOrganizationOf(deps, actor, organization, "triggerEvaluation", "Organization")
    : await requireOrganization(deps, actor, organization, "triggerEvaluation");
}

/** Opens a request for an hour and says which contents the organization does not have yet. */
export async function openBuildRequest(
  deps: BuildRequestDeps,
  actor: Actor,
  { organization, files }: ManifestBody,
): Promise<ManifestView> {
  const { organization: owner } = await requireRequester(deps, actor, organization);
  const ordered = orderSourceFiles(files);
  checkSizes(ordered, deps.sourceBytesMax);
  const id = uuidV7(deps.clock.now(), deps.random);
  const missing = await inTransaction(
    deps.db,
    async (trx) => {
      await insertBuildRequest(trx, {
        id,
        organizationId: owner.id,
        userId: requireUser(actor).id,
        lifetimeMs: LIFETIME_MS,
        files: ordered.map((file) => ({ ...file, hash: fromHex(file.hash) as Uint8Array })),
      });
      return await listMissingBlobs(trx, id);
    },
    deps,
  );
  return { session: id, missing: missing.map(toHex) };
}

/** One content of a multipart body. */
export interface SentBlob {
  /** The hash under which it was sent. */
  readonly name: string;
  readonly body: ByteStream;
}

/**
 * Keeps contents that the request named. Each is durable when it counts, so what broke off is sent again from the
 * `missing` of a new manifest.
 */
export async function receiveBlobs(
  deps: BuildRequestDeps,
  actor: Actor,
  requestId: string,
  blobs: AsyncIterable<SentBlob>,
): Promise<BlobsView> {
  const request = await requireOpenRequest(deps, actor, requestId);
  let uploaded = 0;
  for await (const blob of blobs) {
    await receiveBlob(deps, request, blob);
    uploaded++;
  }
  if (uploaded === 0) throw new DomainError("bad_request", "The body holds no part: name each part by its hash");
  return { uploaded, remaining: await countMissingBlobs(deps.db, requestId) };
}

/** The request while it waits to be dispatched. Only who opened it sees it. */
export async function requireOpenRequest(
  deps: BuildRequestDeps,
  actor: Actor,
  id: string,
): Promise<{ readonly id: string; readonly organizationId: string }> {
  const { id: userId } = requireUser(actor);
  const row = await findBuildRequest(deps.db, id);
  if (row?.user_id !== userId) throw new DomainError("not_found", "Build request not found");
  await requireOrganizationOf(deps, actor, row.organization_id, "triggerEvaluation", "Build request");
  if (row.dispatched_at) throw alreadyDispatched(row.evaluation_id);
  if (row.expired) throw new DomainError("gone", "The build request has expired: send its manifest again");
  return { id, organizationId: row.organization_id };
}

export function alreadyDispatched(evaluationId: string | null): DomainError {
  const what = evaluationId === null ? "" : ` as evaluation ${evaluationId}`;
  return new DomainError("conflict", `The build request was dispatched already${what}: open a new one`);
}

async function receiveBlob(
  deps: BuildRequestDeps,
  { id, organizationId }: { readonly id: string; readonly organizationId: string },
  { name, body }: SentBlob,
): Promise<void> {
  const hash = fromHex(name);
  const size = hash?.length === 32 ? await findRequestedSize(deps.db, id, hash) : undefined;
  if (!hash || size === undefined) {
    throw new DomainError("bad_request", `${JSON.stringify(name.slice(0, 80))} is no hash of the manifest`);
  }
  const bytes = await collect(body, size).catch((error: unknown) => {
    throw error instanceof LimitExceededError ? wrongContent(name, `it is larger than ${size} bytes`) : error;
  });
  const digest = await blake3(deps, bytes);
  if (!equalBytes(digest, hash)) throw wrongContent(name, `its hash is ${toHex(digest)}`);
  if (bytes.length !== size) throw wrongContent(name, `it has ${bytes.length} bytes, the manifest says ${size}`);
  if (await useSourceBlob(deps.db, organizationId, hash)) return;
  const objectKey = `source/${organizationId}/${uuidV7(deps.clock.now(), deps.random)}`;
  await deps.blobs.put(objectKey, streamOf(bytes));
  const kept = await insertSourceBlob(deps.db, { organizationId, hash, size, objectKey });
  if (kept !== objectKey) await deps.blobs.delete(objectKey);
}

async function blake3({ hasher }: BuildRequestDeps, bytes: Uint8Array): Promise<Uint8Array> {
  const hash = await hasher.blake3();
  hash.update(bytes);
  return hash.digest();
}

function wrongContent(name: string, reason: string): DomainError {
  return new DomainError("bad_request", `The content sent as ${name} is another one: ${reason}`);
}

/** One content has one size, and all together are a source that is taken. */
function checkSizes(
  files: readonly { readonly path: string; readonly hash: string; readonly size: number }[],
  bytesMax: number,
): void {
  const sizes = new Map<string, number>();
  let total = 0;
  for (const { path, hash, size } of files) {
    if ((sizes.get(hash) ?? size) !== size) {
      throw new DomainError("bad_request", `files: ${JSON.stringify(path)}: this hash was given with another size`);
    }
    sizes.set(hash, size);
    total += size;
    if (total > bytesMax) throw sourceTooLarge(bytesMax);
  }
}
