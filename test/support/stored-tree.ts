import type { Kysely } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { type Bytes, concatBytes, utf8 } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import { byteStringOfText } from "#core/nix/byte-string.ts";
import type { NarEvent } from "#core/nix/nar.ts";
import { writeNar } from "#core/nix/nar-writer.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { nodeCodec } from "#runtime/node/codec.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";

/** A tree of files: contents, `-> target` as a link, or a folder. */
export type Tree =
  | string
  | Uint8Array
  | { readonly link: string }
  | { readonly entries: Readonly<Record<string, Tree>> };

/** Puts a tree into a cache as a path, as if it had been uploaded. Returns the key of the object it is in. */
export async function storeTree(
  db: Kysely<Database>,
  blobs: BlobStore,
  { cacheId, path, tree }: { readonly cacheId: string; readonly path: string; readonly tree: Tree },
): Promise<string> {
  const nar = await whole(writeNar(events(tree)));
  const file = await whole(nodeCodec.compressZstd(streamOf(nar), { level: 1 }));
  const hashes = { nar_hash: sha256(nar), file_hash: sha256(file) };
  const objectKey = `nar/${path}`;
  await blobs.put(objectKey, streamOf(file));
  await db
    .insertInto("nar")
    .values({ ...hashes, nar_size: nar.length, file_size: file.length, compression: "zstd", object_key: objectKey })
    .execute();
  await db
    .insertInto("cache_path")
    .values({ cache_id: cacheId, hash: path.slice(0, 32), store_path: path, nar_hash: hashes.nar_hash })
    .execute();
  return objectKey;
}

function* events(tree: Tree, name = ""): Generator<NarEvent> {
  if (typeof tree === "string" || tree instanceof Uint8Array) {
    const bytes = typeof tree === "string" ? utf8(tree) : tree;
    yield { kind: "file", name, executable: name.endsWith(".sh"), size: bytes.length, offset: 0 };
    if (bytes.length > 0) yield { kind: "content", bytes };
  } else if ("link" in tree) {
    yield { kind: "symlink", name, target: byteStringOfText(tree.link) };
  } else {
    yield { kind: "directory", name };
    const children = Object.entries(tree.entries).map(([child, value]) => [byteStringOfText(child), value] as const);
    for (const [child, value] of children.sort(([a], [b]) => (a < b ? -1 : 1))) yield* events(value, child);
    yield { kind: "directoryEnd" };
  }
}

async function whole(stream: AsyncIterable<Uint8Array>): Promise<Bytes> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part.slice());
  return concatBytes(parts);
}

function sha256(bytes: Uint8Array): Bytes {
  const hash = nodeHasher.sha256();
  hash.update(bytes);
  return hash.digest();
}
