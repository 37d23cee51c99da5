import { type ByteString, byteStringOf } from "./byte-string.ts";
import { DerivationParseError } from "./derivation-shape.ts";

/** What ends a run of plain characters in a string. */
const SPECIAL = /["\\\n\r\t]/g;

/**
 * Reads the tokens of a derivation as Nix writes it. It accepts no other spelling: no white space, no needless escape.
 * Throws `DerivationParseError`.
 */
export class AtermReader {
  /** The whole text at once, of which the tokens are cut: much quicker than from bytes, one token at a time. */
  readonly #text: ByteString;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#text = byteStringOf(bytes);
  }

  get offset(): number {
    return this.#offset;
  }

  get atEnd(): boolean {
    return this.#offset === this.#text.length;
  }

  fail(message: string, offset: number = this.#offset): never {
    throw new DerivationParseError(message, { offset });
  }

  startsWith(ascii: string): boolean {
    return this.#text.startsWith(ascii, this.#offset);
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
      SPECIAL.lastIndex = this.#offset;
      const character = SPECIAL.exec(this.#text)?.[0];
      const end = character === undefined ? this.#text.length : SPECIAL.lastIndex - 1;
      text += this.#text.slice(this.#offset, end);
      this.#offset = end;
      if (character === undefined) this.fail("it ends inside a string");
      if (character === '"') break;
      if (character !== "\\") this.fail("a line break or tab that is not escaped");
      text += this.#escape();
    }
    this.#offset++;
    return text;
  }

  #escape(): string {
    const character = ESCAPED.get(this.#text[this.#offset + 1] ?? "");
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

const ESCAPED: ReadonlyMap<string, string> = new Map(
  Array.from(ESCAPE, ([character, written]) => [written.slice(1), character]),
);
