import type { ByteRange } from "../ports/blob-store.ts";

/**
 * Reads a `Range` header for a body of `size` bytes (RFC 9110 section 14.2): `bytes=first-last`, `bytes=first-` or
 * `bytes=-length`, clipped to the body. Null where the whole body is to be sent: no header, several ranges, another
 * unit, or nonsense.
 */
export function parseRange(header: string | null, size: number): ByteRange | "unsatisfiable" | null {
  const match = /^bytes=([0-9]{0,15})-([0-9]{0,15})$/.exec(header?.trim() ?? "");
  if (!match || match[0] === "bytes=-") return null;
  const [, first = "", last = ""] = match;
  if (first === "") {
    const length = Math.min(Number(last), size);
    return length === 0 ? "unsatisfiable" : { start: size - length, length };
  }
  const start = Number(first);
  const end = last === "" ? size - 1 : Math.min(Number(last), size - 1);
  if (last !== "" && Number(last) < start) return null;
  return start < size ? { start, length: end - start + 1 } : "unsatisfiable";
}

/** The value of `Content-Range`. */
export function contentRange(range: ByteRange | "unsatisfiable", size: number): string {
  if (range === "unsatisfiable") return `bytes */${size}`;
  return `bytes ${range.start}-${range.start + range.length - 1}/${size}`;
}
