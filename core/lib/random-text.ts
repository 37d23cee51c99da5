import { assert } from "./assert.ts";
import type { RandomBytes } from "./ids.ts";

/** `length` characters of the alphabet, each as likely as the others. */
export function randomText(random: RandomBytes, alphabet: string, length: number): string {
  assert(alphabet.length > 0 && alphabet.length <= 256, "a byte chooses one character");
  // Above the largest multiple of the alphabet's length some characters would come more often.
  const limit = 256 - (256 % alphabet.length);
  let text = "";
  while (text.length < length) {
    for (const byte of random(new Uint8Array(length))) {
      if (byte < limit && text.length < length) text += alphabet[byte % alphabet.length];
    }
  }
  return text;
}
