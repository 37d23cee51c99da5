import { type ByteString, byteStringOf } from "./byte-string.ts";
import { DerivationParseError } from "./derivation-shape.ts";

/** What ends a run of plain characters in a string. */
const SPECIAL = /["\\\n\r\t]/g;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const LINE_BREAK = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const TAB = 0x09;

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
    const start = this.#offset;
    SPECIAL.lastIndex = start;
    const character = SPECIAL.exec(this.#text)?.[0];
    this.#offset = character === undefined ? this.#text.length : SPECIAL.lastIndex - 1;
    if (character === "\\") return this.#escaped(start);
    if (character === undefined) this.fail("it ends inside a string");
    if (character !== '"') this.fail("a line break or tab that is not escaped");
    return this.#text.slice(start, this.#offset++);
  }

  /** A string with escapes, as bytes: put together from as many pieces, a long one would take seconds and gigabytes. */
  #escaped(start: number): ByteString {
    const length = this.#escapedLength(start);
    const bytes = new Uint8Array(length);
    for (let i = 0, at = start; i < length; i++, at++) {
      const code = this.#text.charCodeAt(at);
      bytes[i] = code === BACKSLASH ? (ESCAPED[this.#text.charCodeAt(++at)] as number) : code;
    }
    return byteStringOf(bytes);
  }

  /** Moves behind the string's end. The characters that it has without its escapes. */
  #escapedLength(start: number): number {
    let escapes = 0;
    for (let at = this.#offset; at < this.#text.length; at++) {
      const code = this.#text.charCodeAt(at);
      if (code === QUOTE) {
        this.#offset = at + 1;
        return at - start - escapes;
      }
      if (code === LINE_BREAK || code === CARRIAGE_RETURN || code === TAB) {
        this.fail("a line break or tab that is not escaped", at);
      }
      if (code !== BACKSLASH) continue;
      if (!ESCAPED[this.#text.charCodeAt(at + 1)]) {
        this.fail("an escape other than of a quote, backslash, line break or tab", at);
      }
      escapes++;
      at++;
    }
    return this.fail("it ends inside a string", this.#text.length);
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

/** By the code behind a backslash, the code of what it means; 0 for what no escape is. */
const ESCAPED = new Uint8Array(256);
for (const [character, written] of ESCAPE) ESCAPED[written.charCodeAt(1)] = character.charCodeAt(0);
