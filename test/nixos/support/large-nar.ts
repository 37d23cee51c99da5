import { createCipheriv, createHash } from "node:crypto";
import { formatHash } from "#core/nix/hash.ts";
import { printNarInfo } from "#core/nix/narinfo.ts";
import { makeSourcePath, storePathHash } from "#core/nix/store-path.ts";

const CHUNK_BYTES = 256 * 1024;

/** The NAR of a file whose content no compression shortens, always the same one for a number of bytes. */
export function* largeNar(contentBytes: number): Generator<Buffer> {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(contentBytes));
  yield Buffer.concat([...["nix-archive-1", "(", "type", "regular", "contents"].map(framed), length]);
  const noise = createCipheriv("aes-128-ctr", Buffer.alloc(16, contentBytes % 251), Buffer.alloc(16));
  for (let left = contentBytes; left > 0; left -= CHUNK_BYTES) {
    yield noise.update(Buffer.alloc(Math.min(left, CHUNK_BYTES)));
  }
  yield Buffer.concat([Buffer.alloc((8 - (contentBytes % 8)) % 8), framed(")")]);
}

/** A string of a NAR: its length, itself, and what is missing to a multiple of eight. */
function framed(text: string): Buffer {
  const bytes = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8);
  bytes.writeBigUInt64LE(BigInt(text.length));
  bytes.write(text, 8);
  return bytes;
}

export interface LargePath {
  /** Of the content; the NAR is a little longer. */
  readonly bytes: number;
  /** The part of the store path that names its narinfo. */
  readonly hash: string;
  /** Of the NAR, in hexadecimal digits. */
  readonly sha256: string;
  /** As the stock client puts it, and where it puts the NAR. */
  readonly narInfo: string;
  readonly narName: string;
}

export async function largePath(name: string, bytes: number): Promise<LargePath> {
  const sha256 = createHash("sha256");
  let size = 0;
  for (const chunk of largeNar(bytes)) {
    sha256.update(chunk);
    size += chunk.length;
  }
  const narHash = { algorithm: "sha256", digest: new Uint8Array(sha256.digest()) } as const;
  const storePath = await makeSourcePath(name, narHash.digest, []);
  const narName = `nar/${formatHash(narHash, "nix32").slice("sha256:".length)}.nar`;
  const narInfo = printNarInfo({
    storePath,
    url: narName,
    compression: "none",
    fileHash: narHash,
    fileSize: size,
    narHash,
    narSize: size,
    references: [],
    deriver: null,
    signatures: [],
    ca: null,
  });
  return {
    bytes,
    hash: storePathHash(storePath),
    sha256: Buffer.from(narHash.digest).toString("hex"),
    narInfo,
    narName,
  };
}
