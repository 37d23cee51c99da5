import type { Bytes } from "../lib/bytes.ts";
import { decodeBase32, encodeBase32 } from "../nix/base32.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import { storePathHash } from "../nix/store-path.ts";
import type { Compression } from "../ports/codec.ts";

/**
 * What a NAR that comes from an upstream is called here. It says which NAR it is and how it is compressed, nothing of
 * where it comes from: what a client asks for is looked up anew, among what the upstreams of the cache say they have.
 */
export interface UpstreamNarName {
  /** The 32 characters of the store path's hash. */
  readonly hash: string;
  readonly narHash: Bytes;
  readonly compression: Compression;
}

const EXTENSIONS: Readonly<Record<Compression, string>> = {
  none: "",
  zstd: ".zst",
  xz: ".xz",
  gzip: ".gz",
  bzip2: ".bz2",
  br: ".br",
};
const NAME = /^([0-9a-df-np-sv-z]{32})-([0-9a-df-np-sv-z]{52})\.nar((?:\.[a-z0-9]{2,3})?)$/;

/** Below the cache's address. */
export function upstreamNarUrl(upstreamId: string, info: NarInfo, compression: Compression): string {
  const name = `${storePathHash(info.storePath)}-${encodeBase32(info.narHash.digest)}.nar${EXTENSIONS[compression]}`;
  return `nar/upstream/${upstreamId}/${name}`;
}

/** Reads the last part of `upstreamNarUrl`. Null for anything else. */
export function parseUpstreamNarName(text: string): UpstreamNarName | null {
  const [, hash, narHash, extension] = NAME.exec(text) ?? [];
  const digest = narHash === undefined ? null : decodeBase32(narHash);
  const compression = Object.entries(EXTENSIONS).find(([, known]) => known === extension)?.[0];
  return hash && digest && compression ? { hash, narHash: digest, compression: compression as Compression } : null;
}
