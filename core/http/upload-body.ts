import { DomainError } from "../errors.ts";
import { type ByteStream, fromReadableStream } from "../lib/streams.ts";
import type { Codec, Compression } from "../ports/codec.ts";
import { payloadTooLarge } from "./json-body.ts";

/** RFC 9110 section 8.4.1, and the names that Nix uses beside them. */
const ENCODINGS: Readonly<Record<string, Compression>> = {
  identity: "none",
  gzip: "gzip",
  "x-gzip": "gzip",
  br: "br",
  zstd: "zstd",
  xz: "xz",
  bzip2: "bzip2",
};

/** Refuses what announces itself as too large, before anything of it is read. */
export function requireAnnouncedWithin(request: Request, bytesMax: number): void {
  const length = request.headers.get("content-length");
  if (length !== null && Number(length) > bytesMax) throw payloadTooLarge(bytesMax);
}

/**
 * A request's body as it comes, of at most `bytesMax` bytes: more throw `payload_too_large`, and one that breaks off
 * throws `bad_request`.
 */
export async function* uploadBody({ body }: Request, bytesMax: number): ByteStream {
  if (!body) return;
  let size = 0;
  const source = fromReadableStream(body);
  try {
    for (;;) {
      const { done, value } = await source.next().catch(brokenOff);
      if (done) return;
      size += value.length;
      if (size > bytesMax) throw payloadTooLarge(bytesMax);
      yield value;
    }
  } finally {
    await source.return(undefined);
  }
}

/** The body without its `Content-Encoding`; both forms of it are within `bytesMax`. */
export async function* decodedBody(codec: Codec, request: Request, bytesMax: number): ByteStream {
  const name = request.headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  const compression = ENCODINGS[name];
  const body = compression && codec.decompress(compression, uploadBody(request, bytesMax));
  if (!body)
    throw new DomainError("unsupported_media_type", `The content encoding ${name} is not known here: send none`);
  let size = 0;
  try {
    for await (const chunk of body) {
      size += chunk.length;
      if (size > bytesMax) throw payloadTooLarge(bytesMax);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof DomainError) throw error;
    throw new DomainError("bad_request", `The body cannot be read as ${name}`, { cause: error });
  }
}

function brokenOff(cause: unknown): never {
  throw new DomainError("bad_request", "The request body ended before it was complete", { cause });
}
