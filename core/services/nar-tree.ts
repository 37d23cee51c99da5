import type { ByteStream } from "../lib/streams.ts";
import type { NarEvent } from "../nix/nar.ts";
import { readNar } from "../nix/nar-reader.ts";
import type { Codec, Compression } from "../ports/codec.ts";
import type { Nar } from "./nar.ts";
import { type NarOpenDeps, openNar } from "./nar-open.ts";

export interface NarTreeDeps extends NarOpenDeps {
  readonly codec: Codec;
}

/**
 * What is in a stored NAR, while its file is read and proven: in the place of the last events comes `NarDamagedError`
 * when the file is not what was stored. Null when it is missing. Whoever stops early has proven nothing.
 */
export async function openNarTree(deps: NarTreeDeps, nar: Nar): Promise<AsyncGenerator<NarEvent> | null> {
  const file = await openNar(deps, nar);
  return file && readNar(unpacked(deps.codec, nar.compression as Compression, file));
}

function unpacked(codec: Codec, compression: Compression, file: ByteStream): ByteStream {
  const body = codec.decompress(compression, file);
  if (!body) throw new Error(`this runtime cannot unpack a stored NAR: it is compressed with ${compression}`);
  return body;
}
