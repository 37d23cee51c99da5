import { open } from "node:fs/promises";
import { encodeBase32 } from "#core/nix/base32.ts";
import { type StorePath, storePathHash } from "#core/nix/store-path.ts";
import { type CacheBench, randomContent, type StoredPath, storeFile, type TestCache } from "./support.ts";

export const ORIGIN = "https://cache.example.org";

export function narInfoUrl(cache: { readonly name: string }, path: { readonly storePath: StorePath }): string {
  return `${ORIGIN}/cache/${cache.name}/${storePathHash(path.storePath)}.narinfo`;
}

export function narUrl(cache: TestCache, path: StoredPath): string {
  return `${ORIGIN}/cache/${cache.name}/nar/${encodeBase32(path.nar.fileHash.digest)}.nar.zst`;
}

export type Ask = (url: string, init?: RequestInit) => Promise<Response>;

export function asking(bench: CacheBench, overrides?: Parameters<CacheBench["surface"]>[0]): Ask {
  const surface = bench.surface(overrides);
  return async (url, init) => {
    const response = await surface(new Request(url, init));
    if (!response) throw new Error(`${url} is not the surface's`);
    return response;
  };
}

/** A public cache that offers one path. */
export async function withPath(bench: CacheBench, content = randomContent(1_000)) {
  const cache = await bench.makeCache();
  const path = await storeFile(bench, "path", { content });
  await bench.commit([cache.id], [path]);
  return { cache, path };
}

export async function flipByte(file: string, position: number): Promise<void> {
  await using handle = await open(file, "r+");
  const byte = new Uint8Array(1);
  await handle.read(byte, 0, 1, position);
  byte[0] = (byte[0] as number) ^ 1;
  await handle.write(byte, 0, 1, position);
}
