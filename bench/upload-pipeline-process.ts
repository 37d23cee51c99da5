import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import type { Compression } from "#core/ports/codec.ts";
import { nodeCodec } from "#runtime/node/codec.ts";

/** Unpacks a file, hashes the NAR and packs it as zstd, from the disk to nowhere. Prints the milliseconds. */
const [path = "", form = ""] = process.argv.slice(2);
const READ_BYTES = 64 * 1024;

const hash = createHash("sha256");
async function* hashed(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    hash.update(chunk);
    yield chunk;
  }
}

const startedAt = performance.now();
const file = createReadStream(path, { highWaterMark: READ_BYTES });
const nar = hashed(nodeCodec.decompress(form as Compression, file) as AsyncIterable<Uint8Array>);
for await (const _ of nodeCodec.compressZstd(nar, { level: 3 }));
hash.digest();
process.stdout.write(`${performance.now() - startedAt}\n`);
