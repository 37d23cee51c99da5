import { concatBytes, utf8 } from "#core/lib/bytes.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { byteStringOfText } from "#core/nix/byte-string.ts";
import type { NarEvent } from "#core/nix/nar.ts";
import { writeNar } from "#core/nix/nar-writer.ts";
import { makeSourcePath } from "#core/nix/store-path.ts";
import { receiveNar } from "#core/services/nar-receive.ts";
import { type CacheBench, cut, narHashOf, type StoredPath, type TestCache } from "./support.ts";

/** A text or bytes are a file, `{ link }` is a link, and everything else a folder. */
export type Tree = string | Uint8Array | { readonly link: string } | { readonly [name: string]: Tree };

export function* walk(tree: Tree, name = ""): Generator<NarEvent> {
  const own = byteStringOfText(name);
  if (typeof tree === "string" || tree instanceof Uint8Array) {
    const bytes = typeof tree === "string" ? utf8(tree) : tree;
    yield { kind: "file", name: own, executable: tree === "#!", size: bytes.length, offset: 0 };
    if (bytes.length > 0) yield { kind: "content", bytes };
  } else if ("link" in tree && typeof tree.link === "string") {
    yield { kind: "symlink", name: own, target: byteStringOfText(tree.link) };
  } else {
    yield { kind: "directory", name: own };
    const names = Object.keys(tree).sort((a, b) => (byteStringOfText(a) < byteStringOfText(b) ? -1 : 1));
    for (const child of names) yield* walk((tree as { [name: string]: Tree })[child] as Tree, child);
    yield { kind: "directoryEnd" };
  }
}

/** Stores a tree's NAR and offers it in the cache. */
export async function offerTree(bench: CacheBench, cache: TestCache, name: string, tree: Tree): Promise<StoredPath> {
  const bytes = concatBytes([await collect(writeNar(walk(tree)), 2 ** 30)]);
  const narHash = await narHashOf(bytes);
  const upload = { narHash, narSize: bytes.length, compression: "none", body: streamOf(...cut(bytes)) } as const;
  const nar = await receiveNar(bench.deps, upload);
  const storePath = await makeSourcePath(name, narHash.digest, []);
  const path = { storePath, narHash, references: [], deriver: null, ca: null, nar };
  await bench.commit([cache.id], [path]);
  return path;
}
