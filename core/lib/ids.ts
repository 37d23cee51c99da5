import { toHex, utf8 } from "./bytes.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** Fills the array with random bytes and returns it; `crypto.getRandomValues` in production, seeded in a simulation. */
export type RandomBytes = (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;

export const systemRandom: RandomBytes = (bytes) => crypto.getRandomValues(bytes);

/** From 0 to below 1, for pauses that must not fall together. */
export function randomFraction(random: RandomBytes): number {
  return new DataView(random(new Uint8Array(4)).buffer).getUint32(0) / 2 ** 32;
}

/** RFC 9562 section 5.7: 48 bits of milliseconds, then random bits. Ids sort by the time they were made. */
export function uuidV7(nowMs: number, random: RandomBytes = systemRandom): string {
  const bytes = random(new Uint8Array(16));
  let time = Math.floor(nowMs);
  for (let i = 5; i >= 0; i--) {
    bytes[i] = time % 256;
    time = Math.floor(time / 256);
  }
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x70;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return format(bytes);
}

/** RFC 9562 section 5.4. Worker ids are of this kind. */
export function uuidV4(random: RandomBytes = systemRandom): string {
  const bytes = random(new Uint8Array(16));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return format(bytes);
}

/** The same id for the same words, always: for rows that may be written twice. RFC 9562 section 5.8, over SHA-256. */
export async function derivedUuid(...words: readonly string[]): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", utf8(JSON.stringify(words)));
  const bytes = new Uint8Array(digest).slice(0, 16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return format(bytes);
}

/** Lower-case hexadecimal with dashes, any version. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}

export function isUuidV4(text: string): boolean {
  return UUID_V4.test(text);
}

function format(bytes: Uint8Array): string {
  const hex = toHex(bytes);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
