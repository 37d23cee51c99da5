import type { RandomBytes } from "../lib/ids.ts";

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const SECRET_LENGTH = 64;
const API_KEY = /^(?:GRAD|grd_)([A-Za-z0-9]{64})$/;

/** What follows the prefix of an API key; null when the text has not the form of one. */
export function apiKeySecret(text: string): string | null {
  return API_KEY.exec(text)?.[1] ?? null;
}

/** 64 characters, 381 bits of chance. */
export function generateApiKeySecret(random: RandomBytes): string {
  let secret = "";
  while (secret.length < SECRET_LENGTH) {
    for (const byte of random(new Uint8Array(SECRET_LENGTH))) {
      // 248 is the largest multiple of 62 that a byte reaches: above it some characters would come more often.
      if (byte < 248 && secret.length < SECRET_LENGTH) secret += ALPHABET[byte % ALPHABET.length];
    }
  }
  return secret;
}

export function formatApiKey(secret: string): string {
  return `GRAD${secret}`;
}
