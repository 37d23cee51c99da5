import { isFileSent } from "../db/sent-nars.ts";
import { DomainError } from "../errors.ts";
import type { Bytes } from "../lib/bytes.ts";
import type { ByteStream } from "../lib/streams.ts";
import { type NarInfo, NarInfoParseError, parseNarInfo } from "../nix/narinfo.ts";
import { storePathHash } from "../nix/store-path.ts";
import { offerPaths, type Pusher, sendNar, type UploadDeps, unpackedBytesMax } from "./cache-upload.ts";
import { stageObject } from "./nar-stage.ts";

/**
 * Takes a NAR file that the stock client puts under the hash of its file, before it says what it is. Throws
 * `unprocessable_entity`, `unsupported_media_type` and `payload_too_large`.
 */
export async function putNar(
  deps: UploadDeps,
  pusher: Pusher,
  { fileHash: digest, body }: { readonly fileHash: Bytes; readonly body: ByteStream },
): Promise<void> {
  const fileHash = { algorithm: "sha256", digest } as const;
  const narBytesMax = unpackedBytesMax(deps);
  await sendNar(deps, pusher, { fileHash, store: () => stageObject(deps, { body, fileHash, narBytesMax }) });
}

/** Whether the pusher has put this file there already, and no path has named it since. Others' files are not there. */
export async function isNarPut({ db }: Pick<UploadDeps, "db">, pusher: Pusher, fileHash: Bytes): Promise<boolean> {
  return await isFileSent(db, pusher, fileHash);
}

/**
 * Offers the path that a narinfo describes, for which its NAR must have come. Its URL and its file's size and hash are
 * the client's own: the cache gives out the file that it stored. Throws as `offerPaths`, and `unprocessable_entity` for
 * what is no narinfo of this name.
 */
export async function putNarInfo(
  deps: UploadDeps,
  pusher: Pusher,
  { hash, text }: { readonly hash: string; readonly text: string },
): Promise<void> {
  const info = readNarInfo(text);
  if (storePathHash(info.storePath) !== hash) {
    throw new DomainError("unprocessable_entity", `the narinfo is of ${info.storePath}, which is not ${hash}`);
  }
  await offerPaths(deps, pusher, [info]);
}

function readNarInfo(text: string): NarInfo {
  try {
    return parseNarInfo(text);
  } catch (error) {
    if (error instanceof NarInfoParseError) throw new DomainError("unprocessable_entity", error.message);
    throw error;
  }
}
