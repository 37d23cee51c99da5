import type {
  ClosureBody,
  CommittedView,
  CompleteBody,
  MissingBody,
  MissingView,
  PresignedBody,
  PresignedView,
  UploadBody,
  UploadedView,
} from "../api/caches-uploads.ts";
import { listReachableNars } from "../db/sent-nars.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { toHex } from "../lib/bytes.ts";
import { chunksOf } from "../lib/chunks.ts";
import type { ByteStream } from "../lib/streams.ts";
import { parseStorePathBaseName, storePathHash } from "../nix/store-path.ts";
import { offerPaths, type Pusher, presentPaths, requirePusher, sendNar, type UploadDeps } from "./cache-upload.ts";
import { dropIfPresent, finishChunks, type IncomingChunk, receiveChunk, receivedBytes } from "./cache-upload-parts.ts";
import { type DescribedUpload, readOfferedPath, readSha256, readStorePath, readUpload } from "./cache-upload-paths.ts";
import { beginPresigned, dropPresigned, finishPresigned } from "./cache-upload-presigned.ts";
import { drain } from "./nar-form.ts";
import { storeRecognized } from "./nar-stage.ts";

/** The cache and the path that a request is about, as its address names them. */
export interface UploadAddress {
  readonly cache: string;
  /** The 32 characters of the store path's hash. */
  readonly hash: string;
}

export interface CommitOption {
  readonly commit: "now" | "later";
}

const CHUNK = 1_000;
/** At 32 look-ups of 50 ms at a time this takes 8 seconds. */
const UPSTREAM_PATHS_MAX = 5_000;

/** A path and its NAR in one request. */
export async function uploadPath(
  deps: UploadDeps,
  actor: Actor,
  cache: string,
  { described: body, nar, commit }: CommitOption & { readonly described: UploadBody; readonly nar: ByteStream },
): Promise<UploadedView> {
  const pusher = await requirePusher(deps, actor, cache);
  const described = readUpload(body);
  const { narHash, narSize, storePath } = described.path;
  if (await dropIfPresent(deps, pusher, storePath)) {
    // Many clients read no answer before they have sent everything.
    await drain(nar);
    return { store_path: storePath, created: false };
  }
  const facts = { narHash, narSize, ...(described.fileHash && { fileHash: described.fileHash }) };
  await sendNar(deps, pusher, { ...facts, store: () => storeRecognized(deps, { ...facts, body: nar }) });
  return await offered(deps, pusher, { described, commit });
}

export async function uploadChunk(
  deps: UploadDeps,
  actor: Actor,
  address: UploadAddress,
  chunk: IncomingChunk,
): Promise<number> {
  return await receiveChunk(deps, await requirePusher(deps, actor, address.cache), readHash(address), chunk);
}

/** Where an upload in parts stands. */
export async function uploadOffset(deps: UploadDeps, actor: Actor, address: UploadAddress): Promise<number> {
  return await receivedBytes(deps, await requirePusher(deps, actor, address.cache), readHash(address));
}

/** Makes a path of the parts that have come. It may be called again until it succeeds. */
export async function finalizeUpload(
  deps: UploadDeps,
  actor: Actor,
  address: UploadAddress,
  { described: body, commit }: CommitOption & { readonly described: UploadBody },
): Promise<UploadedView> {
  const pusher = await requirePusher(deps, actor, address.cache);
  const described = readAddressed(address, body);
  const { storePath } = described.path;
  if (await dropIfPresent(deps, pusher, storePath)) return { store_path: storePath, created: false };
  await finishChunks(deps, pusher, described);
  return await offered(deps, pusher, { described, commit });
}

export async function beginDirectUpload(
  deps: UploadDeps,
  actor: Actor,
  address: UploadAddress,
  { file_size: fileSize }: PresignedBody,
): Promise<PresignedView> {
  return await beginPresigned(deps, await requirePusher(deps, actor, address.cache), readHash(address), fileSize);
}

/** As `finalizeUpload`, of what came into the storage. */
export async function completeDirectUpload(
  deps: UploadDeps,
  actor: Actor,
  address: UploadAddress,
  { body, commit }: CommitOption & { readonly body: CompleteBody },
): Promise<UploadedView> {
  const pusher = await requirePusher(deps, actor, address.cache);
  const described = readAddressed(address, body.path);
  const { storePath } = described.path;
  if (await dropIfPresent(deps, pusher, storePath)) return { store_path: storePath, created: false };
  await finishPresigned(deps, pusher, { described, parts: body.parts });
  return await offered(deps, pusher, { described, commit });
}

export async function abortDirectUpload(deps: UploadDeps, actor: Actor, address: UploadAddress): Promise<void> {
  await dropPresigned(deps, await requirePusher(deps, actor, address.cache), readHash(address));
}

/** Offers paths whose NARs have come: all of them appear, or none. */
export async function commitClosure(
  deps: UploadDeps,
  actor: Actor,
  cache: string,
  { paths }: ClosureBody,
): Promise<CommittedView> {
  const pusher = await requirePusher(deps, actor, cache);
  return { created: await offerPaths(deps, pusher, paths.map(readOfferedPath)) };
}

/** Which of the paths have to be pushed, and for which of these the NAR need not be sent. */
export async function findMissing(
  deps: UploadDeps,
  actor: Actor,
  cache: string,
  { paths, upstreams }: MissingBody,
): Promise<MissingView> {
  const pusher = await requirePusher(deps, actor, cache);
  const asked = new Map(
    paths.map(({ store_path: storePath, nar_hash: narHash }) => [
      readStorePath(storePath, "store_path"),
      narHash ? readSha256(narHash, "nar_hash") : null,
    ]),
  );
  const described = Array.from(asked.keys(), (storePath) => ({ storePath }));
  for (const path of await presentPaths(deps, pusher, described)) asked.delete(path);
  if (upstreams) {
    if (asked.size > UPSTREAM_PATHS_MAX) {
      throw new DomainError("validation", `upstreams: at most ${UPSTREAM_PATHS_MAX} paths are looked up there at once`);
    }
    for (const path of (await deps.upstreams.find([pusher.cacheId], [...asked.keys()])).found.keys())
      asked.delete(path);
  }
  const known = new Set<string>();
  const hashes = [...asked.values()].flatMap((hash) => (hash ? [hash.digest] : []));
  for (const chunk of chunksOf(hashes, CHUNK)) {
    for (const row of await listReachableNars(deps.db, pusher, chunk)) known.add(toHex(row.nar_hash));
  }
  const isKnown = (path: (typeof missing)[number]) => known.has(toHex(asked.get(path)?.digest ?? new Uint8Array(0)));
  const missing = [...asked.keys()];
  return { missing, known_nars: missing.filter(isKnown) };
}

async function offered(
  deps: UploadDeps,
  pusher: Pusher,
  { described: { path }, commit }: CommitOption & { readonly described: DescribedUpload },
): Promise<UploadedView> {
  const created = commit === "now" && (await offerPaths(deps, pusher, [path])).length > 0;
  return { store_path: path.storePath, created };
}

/** The path that the body describes, which is the one of the address. */
function readAddressed(address: UploadAddress, body: UploadBody): DescribedUpload {
  const described = readUpload(body);
  const hash = storePathHash(described.path.storePath);
  if (hash === readHash(address)) return described;
  throw new DomainError("validation", `store_path: its hash is ${hash}, and the address says ${address.hash}`);
}

function readHash({ hash }: UploadAddress): string {
  if (parseStorePathBaseName(`${hash}-x`)) return hash;
  throw new DomainError("validation", "the hash must be the 32 characters of a store path");
}
