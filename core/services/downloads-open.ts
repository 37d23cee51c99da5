import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import type { ByteStream } from "../lib/streams.ts";
import { byteStringOfText } from "../nix/byte-string.ts";
import { narEntry } from "../nix/nar-entry.ts";
import { readNar } from "../nix/nar-reader.ts";
import { parseStorePathBaseName } from "../nix/store-path.ts";
import type { Codec, Compression } from "../ports/codec.ts";
import type { Hasher } from "../ports/hasher.ts";
import { OutboundError } from "../ports/outbound.ts";
import { requireProduct } from "./downloads.ts";
import { requireDigest } from "./nar-check.ts";
import { entryBody } from "./nar-entry-body.ts";
import { NarDamagedError, type NarOpenDeps } from "./nar-open.ts";
import type { OpenedPath } from "./opened-path.ts";
import { openPath } from "./paths-availability.ts";
import type { UpstreamOpenDeps } from "./upstream-open.ts";
import { UpstreamFailedError } from "./upstream-probe.ts";

export interface DownloadDeps extends NarOpenDeps, UpstreamOpenDeps {
  readonly codec: Codec;
}

export interface Download {
  /** As the client is to save it. */
  readonly fileName: string;
  readonly subtype: string;
  /** Bytes; null where that is known only at the end. */
  readonly size: number | null;
  readonly body: ByteStream;
  /** Lets go of what is open; for a body that is not read, or not to its end. */
  discard(): Promise<void>;
}

const COMPRESSIONS: readonly string[] = ["none", "zstd", "xz", "gzip", "bzip2", "br"] satisfies Compression[];

/**
 * A file that a build offers, out of the NAR of its output; a folder as a tar file, compressed with zstd. The last
 * piece is given only when the whole NAR had its hash: a body that ends is what the build made. Memory is constant.
 * Throws `not_found` where there is no such product, or no cache has it now.
 */
export async function openDownload(
  deps: DownloadDeps,
  actor: Actor,
  buildId: string,
  nameOrPath: string,
): Promise<Download> {
  const { product, organizationId } = await requireProduct(deps, actor, buildId, nameOrPath);
  const [base = "", ...below] = product.path.split("/");
  const storePath = parseStorePathBaseName(base);
  const opened = storePath && (await fromStorage(() => openPath(deps, organizationId, storePath)));
  if (!opened) throw absent();
  const events = narEntry(readNar(unpacked(deps, opened)), below.map(byteStringOfText));
  const entry = await fromStorage(() => entryBody(deps.codec, events, product.name));
  if (!entry) throw absent();
  const { name, subtype } = product;
  const fileName = entry.kind === "archive" ? `${name}.tar.zst` : name;
  return { fileName, subtype, size: entry.size, body: entry.body, discard: entry.discard };
}

/** What is found out before the first byte is an answer of its own; afterwards only the body can be cut. */
async function fromStorage<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (cause instanceof NarDamagedError) throw absent();
    if (!(cause instanceof UpstreamFailedError || cause instanceof OutboundError)) throw cause;
    throw new DomainError("service_unavailable", "The upstream cache that has the file does not answer now", { cause });
  }
}

/** The NAR's bytes, and an error in the place of their end when they are not what the narinfo says. */
async function* unpacked({ codec, hasher }: DownloadDeps, opened: OpenedPath): AsyncGenerator<Uint8Array> {
  const compression = COMPRESSIONS.includes(opened.compression) ? (opened.compression as Compression) : null;
  const nar = compression && codec.decompress(compression, opened.body);
  if (!nar) {
    await opened.body[Symbol.asyncIterator]().return?.();
    throw absent();
  }
  yield* proven(hasher, nar, opened);
}

async function* proven(hasher: Hasher, nar: ByteStream, { info }: OpenedPath): AsyncGenerator<Uint8Array> {
  const hash = hasher.sha256();
  let size = 0;
  for await (const chunk of nar) {
    size += chunk.length;
    if (size > info.narSize) break;
    hash.update(chunk);
    yield chunk;
  }
  if (size !== info.narSize) throw new Error(`the NAR of ${info.storePath} does not have ${info.narSize} bytes`);
  requireDigest(`the NAR of ${info.storePath}`, hash.digest(), info.narHash);
}

function absent(): DomainError {
  return new DomainError("not_found", "No cache that the organization reads has the file any more: restart the build");
}
