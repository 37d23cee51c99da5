import { createRequire } from "node:module";
import type { Duplex } from "node:stream";
import { shownAnEnd } from "#core/lib/streams.ts";
import { withinDictionary } from "#core/lib/xz-guard.ts";
import type { Codec } from "#core/ports/codec.ts";
import { through, zlibCodec } from "#runtime/common/zlib-codec.ts";
import { unpackBzip2Aside } from "./bzip2.ts";

/** That of `xz -9`. The package has no limit of its own, and the format none below 4 GiB. */
const XZ_DICTIONARY_BYTES_MAX = 64 * 1024 * 1024;

/** Compression in threads of libuv's, of the packages' and of our own. */
export const nodeCodec: Codec = {
  ...zlibCodec,
  decompress(compression, body) {
    if (compression === "bzip2") return unpackBzip2Aside(body);
    if (compression !== "xz") return zlibCodec.decompress(compression, body);
    const open = loadXz();
    return open && shownAnEnd(withinDictionary(body, XZ_DICTIONARY_BYTES_MAX), (file) => through(file, open));
  },
};

let xz: (() => Duplex) | null | undefined;

/** Null where the package's native part is not installed: npm leaves optional packages out without a word. */
function loadXz(): (() => Duplex) | null {
  if (xz === undefined) {
    try {
      const module = createRequire(import.meta.url)("@napi-rs/lzma/xz") as typeof import("@napi-rs/lzma/xz");
      xz = () => module.createDecompressStream();
    } catch {
      xz = null;
    }
  }
  return xz;
}
