import { assert } from "../lib/assert.ts";
import { type Bytes, fromUtf8Lossy, utf8 } from "../lib/bytes.ts";

/**
 * Bytes as a string of as many characters, each of the code 0 to 255: derivations, names of files and targets of links
 * may hold bytes that are not UTF-8. Such strings compare and sort as their bytes do. For ASCII it is the text itself;
 * for anything else `byteStringText` gives the text.
 */
export type ByteString = string;

const CHUNK = 8192;
/** Below this the decoder's call costs more than it saves. */
const DECODED_BYTES_MIN = 32;
const BEYOND_ASCII = /[^\0-\x7f]/;

export function byteStringOf(bytes: Uint8Array): ByteString {
  if (bytes.length >= DECODED_BYTES_MIN) {
    // ASCII, which nearly everything is, reads the same as UTF-8: the platform does that twenty times as fast.
    const decoded = fromUtf8Lossy(bytes);
    if (decoded.length === bytes.length && !BEYOND_ASCII.test(decoded)) return decoded;
  }
  if (bytes.length <= CHUNK) return String.fromCharCode(...bytes);
  let text = "";
  for (let i = 0; i < bytes.length; i += CHUNK) text += String.fromCharCode(...bytes.subarray(i, i + CHUNK));
  return text;
}

/** The inverse of `byteStringOf`. A text that was not made a byte string first is refused with `AssertionError`. */
export function byteStringBytes(text: ByteString): Bytes {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    assert(code <= 0xff, "a byte string holds a character that is no byte");
    bytes[i] = code;
  }
  return bytes;
}

/** The byte string of a text in UTF-8. */
export function byteStringOfText(text: string): ByteString {
  return isAscii(text) ? text : byteStringOf(utf8(text));
}

/** The bytes read as UTF-8, for people and for JSON. What is not UTF-8 becomes U+FFFD. */
export function byteStringText(text: ByteString): string {
  return isAscii(text) ? text : fromUtf8Lossy(byteStringBytes(text));
}

function isAscii(text: string): boolean {
  return !BEYOND_ASCII.test(text);
}
