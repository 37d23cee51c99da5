const HEX_CODES = Array.from("0123456789abcdef", (digit) => digit.charCodeAt(0));
/** A call takes so many arguments anywhere. */
const CODES_A_CALL = 8192;
const encoder = new TextEncoder();
const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenientDecoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Bytes whose memory is an ordinary buffer: what Web APIs (`Response`, `crypto.subtle`) accept. */
export type Bytes = Uint8Array<ArrayBuffer>;

export function utf8(text: string): Bytes {
  return encoder.encode(text);
}

/** Throws `TypeError` when the bytes are not UTF-8. */
export function fromUtf8(bytes: Uint8Array): string {
  return strictDecoder.decode(bytes);
}

/** Bytes that are not UTF-8 become U+FFFD. For display (logs, daemon messages), never for identity. */
export function fromUtf8Lossy(bytes: Uint8Array): string {
  return lenientDecoder.decode(bytes);
}

export function concatBytes(parts: readonly Uint8Array[]): Bytes {
  let length = 0;
  for (const part of parts) length += part.length;
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** Not constant in time: not for secrets. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/**
 * The text of these UTF-16 code units, as one string in memory: one that is put together character by character stays a
 * tree of as many strings for as long as it is kept, 1.6 KB for a hash, and each is looked at by every collection.
 */
export function textOfCodes(codes: readonly number[]): string {
  if (codes.length <= CODES_A_CALL) return String.fromCharCode(...codes);
  const parts: string[] = [];
  for (let i = 0; i < codes.length; i += CODES_A_CALL) {
    parts.push(String.fromCharCode(...codes.slice(i, i + CODES_A_CALL)));
  }
  return parts.join("");
}

/** The same text in memory of its own: a part of another text keeps the whole of that one. */
export function ownText(text: string): string {
  return textOfCodes(Array.from(text, (character) => character.charCodeAt(0)));
}

export function toHex(bytes: Uint8Array): string {
  const codes: number[] = [];
  for (const byte of bytes) codes.push(HEX_CODES[byte >> 4] as number, HEX_CODES[byte & 15] as number);
  return textOfCodes(codes);
}

/** Null when the text is not an even number of hexadecimal digits (either case). */
export function fromHex(text: string): Bytes | null {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) return null;
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** Standard alphabet with padding (RFC 4648 section 4). */
export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  for (let i = 0; i < bytes.length; i += 0x8000) binary += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(binary);
}

/** Null unless the text is exact standard base64 with padding: no white space, no other alphabet, no stray bits. */
export function fromBase64(text: string): Bytes | null {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return null;
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return toBase64(bytes) === text ? bytes : null;
}
