import { type Bytes, textOfCodes } from "../lib/bytes.ts";

/** The alphabet of Nix: no e, o, t, u. */
const ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz";
const CODES = Array.from(ALPHABET, (digit) => digit.charCodeAt(0));
const INVALID = 0xff;
const DIGIT_OF_CODE = new Uint8Array(128).fill(INVALID);
for (const [digit, code] of CODES.entries()) DIGIT_OF_CODE[code] = digit;

/** Nix's own base 32: the number is little-endian and its most significant digit is written first. No padding. */
export function encodeBase32(bytes: Uint8Array): string {
  const codes: number[] = [];
  for (let position = encodedLength(bytes.length) - 1; position >= 0; position--) {
    const bit = position * 5;
    const index = bit >> 3;
    const shift = bit & 7;
    const pair = (bytes[index] as number) | ((bytes[index + 1] ?? 0) << 8);
    codes.push(CODES[(pair >> shift) & 31] as number);
  }
  return textOfCodes(codes);
}

/** Null unless the text is exactly what `encodeBase32` writes for some bytes: alphabet, length, no stray bits. */
export function decodeBase32(text: string): Bytes | null {
  const length = (text.length * 5) >> 3;
  if (encodedLength(length) !== text.length) return null;
  const bytes = new Uint8Array(length);
  for (let i = 0; i < text.length; i++) {
    const digit = DIGIT_OF_CODE[text.charCodeAt(i)] ?? INVALID;
    if (digit === INVALID) return null;
    const bit = (text.length - 1 - i) * 5;
    const index = bit >> 3;
    const pair = digit << (bit & 7);
    bytes[index] = (bytes[index] as number) | (pair & 0xff);
    const carry = pair >> 8;
    if (carry === 0) continue;
    if (index + 1 >= length) return null;
    bytes[index + 1] = (bytes[index + 1] as number) | carry;
  }
  return bytes;
}

function encodedLength(byteCount: number): number {
  return Math.ceil((byteCount * 8) / 5);
}
