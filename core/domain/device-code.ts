import type { RandomBytes } from "../lib/ids.ts";
import { randomText } from "../lib/random-text.ts";

const DEVICE_CODE_LENGTH = 64;
const DEVICE_CODE_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/** Nothing that looks like something else: neither 0 and O nor 1, I and L. */
const USER_CODE_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789";
const USER_CODE_HALF_LENGTH = 4;
const USER_CODE = new RegExp(`^([${USER_CODE_ALPHABET}]{4})-?([${USER_CODE_ALPHABET}]{4})$`);

/** What a command line asks with whether somebody has let it in: 381 bits of chance. */
export function generateDeviceCode(random: RandomBytes): string {
  return randomText(random, DEVICE_CODE_ALPHABET, DEVICE_CODE_LENGTH);
}

/** What a person reads and types, `XXXX-XXXX`: 39 bits of chance, for ten minutes. */
export function generateUserCode(random: RandomBytes): string {
  const half = () => randomText(random, USER_CODE_ALPHABET, USER_CODE_HALF_LENGTH);
  return `${half()}-${half()}`;
}

/** As it was shown, however it was typed: in lower case, without the dash, with spaces around. Null: it is no code. */
export function parseUserCode(text: string): string | null {
  const match = USER_CODE.exec(text.trim().toUpperCase());
  return match && `${match[1]}-${match[2]}`;
}
