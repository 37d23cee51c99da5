import { type ByteString, byteStringOf } from "./byte-string.ts";
import { DerivationParseError } from "./derivation-shape.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * Reads the tokens of a derivation as Nix writes it. It accepts no other spelling: no white space, no needless escape.
 * Throws `DerivationParseError`.
 */
export class AtermReader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get offset(): number {
    return this.#offset;
  }

  get atEnd(): boolean {
    return this.#offset === this.#bytes.length;
  }

  fail(message: string, offset: number = this.#offset): never {
    throw new DerivationParseError(message, { offset });
  }

  startsWith(ascii: string): boolean {
    for (let i = 0; i < ascii.length; i++) if (this.#bytes[this.#offset + i] !== ascii.charCodeAt(i)) return false;
    return true;
  }

  expect(ascii: string): void {
    if (!this.startsWith(ascii)) this.fail(this.atEnd ? `it ends where ${ascii} belongs` : `expected ${ascii}`);
    this.#offset += ascii.length;
  }

  /** Reads `[item,item]`, calling `readItem` at the start of each item. */
  list(countMax: number, readItem: () => void): void {
    this.expect("[");
    for (let count = 0; !this.startsWith("]"); count++) {
      if (count === countMax) this.fail(`a list of more than ${countMax} items`);
      if (count > 0) this.expect(",");
      readItem();
    }
    this.expect("]");
  }

  string(): ByteString {
    this.expect('"');
    let text = "";
    for (;;) {
      const start = this.#offset;
      while (!isSpecial(this.#bytes[this.#offset])) this.#offset++;
      text += byteStringOf(this.#bytes.subarray(start, this.#offset));
      const byte = this.#bytes[this.#offset];
      if (byte === undefined) this.fail("it ends inside a string");
      if (byte === QUOTE) break;
      if (byte !== BACKSLASH) this.fail("a line break or tab that is not escaped");
      text += this.#escape();
    }
    this.#offset++;
    return text;
  }

  #escape(): string {
    const character = ESCAPED.get(this.#bytes[this.#offset + 1] ?? -1);
    if (character === undefined) this.fail("an escape other than of a quote, backslash, line break or tab");
    this.#offset += 2;
    return character;
  }
}

/** Prints a string as Nix does. */
export function printAtermString(text: ByteString): string {
  return `"${text.replace(/["\\\n\r\t]/g, (character) => ESCAPE.get(character) as string)}"`;
}

const ESCAPE: ReadonlyMap<string, string> = new Map([
  ['"', '\\"'],
  ["\\", "\\\\"],
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
]);

const ESCAPED: ReadonlyMap<number, string> = new Map(
  Array.from(ESCAPE, ([character, written]) => [written.charCodeAt(1), character]),
);

/** Whether a byte ends a run of plain bytes in a string; so does the end of the text. */
function isSpecial(byte: number | undefined): boolean {
  switch (byte) {
    case undefined:
    case QUOTE:
    case BACKSLASH:
    case 0x0a:
    case 0x0d:
    case 0x09:
      return true;
    default:
      return false;
  }
}
