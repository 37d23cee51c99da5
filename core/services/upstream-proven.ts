import { DomainError } from "../errors.ts";
import { equalBytes } from "../lib/bytes.ts";
import type { ByteStream } from "../lib/streams.ts";
import type { Hash } from "../nix/hash.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import type { Codec, Compression } from "../ports/codec.ts";
import type { Hasher } from "../ports/hasher.ts";
import { checkedNar, refused } from "./nar-check.ts";
import { watched } from "./nar-tee.ts";

export interface ProvenFileDeps {
  readonly codec: Codec;
  readonly hasher: Hasher;
}

/** What came is not what the upstream's narinfo says. */
export class WrongFileError extends Error {
  override readonly name = "WrongFileError";
}

const ZSTD_LEVEL = 3;

/** Whether a file that comes in one form can be passed on in another. */
export function canPassOn(from: string, to: Compression): boolean {
  return from === to || to === "zstd";
}

/**
 * An upstream's file, read once while it is passed on, as it comes or as zstd. Its last chunk is held back until the
 * NAR in it and the file itself were found to be what the narinfo says; else `WrongFileError` comes in its place. What
 * the connection throws is passed on.
 */
export async function* provenFile(
  deps: ProvenFileDeps,
  { info, body }: { readonly info: NarInfo; readonly body: ByteStream },
  compression: Compression,
): AsyncGenerator<Uint8Array> {
  const source: { failure: { readonly error: unknown } | null } = { failure: null };
  const file = checkedFile(deps.hasher, noting(body, source), info.fileHash);
  const passed =
    info.compression === compression
      ? watched(file, (copy) => drain(unpacked(deps, info, copy)))
      : deps.codec.compressZstd(unpacked(deps, info, file), { level: ZSTD_LEVEL });
  try {
    yield* heldBack(passed);
  } catch (error) {
    // The connection's own failure comes out of a decoder as a broken file.
    if (source.failure) throw source.failure.error;
    throw new WrongFileError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

/** The last chunk only comes when the end did. */
export async function* heldBack(body: ByteStream): AsyncGenerator<Uint8Array> {
  let held: Uint8Array | null = null;
  for await (const chunk of body) {
    if (chunk.length === 0) continue;
    if (held) yield held;
    held = chunk;
  }
  if (held) yield held;
}

function unpacked({ codec, hasher }: ProvenFileDeps, info: NarInfo, file: ByteStream): ByteStream {
  const nar = codec.decompress(info.compression as Compression, file);
  if (!nar) throw new DomainError("unsupported_media_type", `this server cannot read ${info.compression}`);
  return checkedNar(hasher, nar, info);
}

async function* checkedFile(hasher: Hasher, body: ByteStream, expected: Hash | null): AsyncGenerator<Uint8Array> {
  if (expected?.algorithm !== "sha256" && expected?.algorithm !== "blake3") {
    yield* body;
    return;
  }
  const hash = expected.algorithm === "sha256" ? hasher.sha256() : await hasher.blake3();
  for await (const chunk of body) {
    hash.update(chunk);
    yield chunk;
  }
  if (!equalBytes(hash.digest(), expected.digest)) throw refused("the file has another hash than was announced");
}

async function* noting(
  body: ByteStream,
  source: { failure: { readonly error: unknown } | null },
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    source.failure = { error };
    throw error;
  }
}

async function drain(stream: ByteStream): Promise<void> {
  for await (const _ of stream);
}
