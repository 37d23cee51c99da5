import { type BitInput, Bzip2Error } from "./bits.ts";

const LENGTH_MAX = 20;
/** Nearly all codes are that short; the others take one step more a bit. */
const QUICK_BITS = 10;

/** One of a block's prefix codes. */
export class HuffmanCode {
  /** By the next bits: `symbol << 5 | length`, 0 for codes that are longer. */
  readonly #quick: Uint16Array = new Uint16Array(1 << QUICK_BITS);
  /** By length: the first code behind those of this length, and what leads from a code to its place in `#symbols`. */
  readonly #limit: Int32Array = new Int32Array(LENGTH_MAX + 1);
  readonly #base: Int32Array = new Int32Array(LENGTH_MAX + 1);
  readonly #symbols: Uint16Array;

  constructor(lengths: Uint8Array) {
    this.#symbols = new Uint16Array(lengths.length);
    let code = 0;
    let place = 0;
    for (let length = 1; length <= LENGTH_MAX; length++) {
      code <<= 1;
      this.#base[length] = place - code;
      for (let symbol = 0; symbol < lengths.length; symbol++) {
        if (lengths[symbol] !== length) continue;
        this.#symbols[place++] = symbol;
        if (length <= QUICK_BITS) this.#addQuick(code, length, symbol);
        code++;
      }
      this.#limit[length] = code;
    }
  }

  /** Reads one symbol; bits that are no code throw. */
  decode(input: BitInput): number {
    const quick = this.#quick[input.peek(QUICK_BITS)] as number;
    if (quick !== 0) {
      input.skip(quick & 31);
      return quick >> 5;
    }
    for (let length = QUICK_BITS + 1; length <= LENGTH_MAX; length++) {
      const code = input.peek(length);
      if (code >= (this.#limit[length] as number)) continue;
      const symbol = this.#symbols[code + (this.#base[length] as number)];
      if (symbol === undefined) break;
      input.skip(length);
      return symbol;
    }
    throw new Bzip2Error("bits that are no code");
  }

  /** Lengths that are too many for a code overlap; what they overlap decides, and the checksum tells. */
  #addQuick(code: number, length: number, symbol: number): void {
    const first = code << (QUICK_BITS - length);
    this.#quick.fill((symbol << 5) | length, first, first + (1 << (QUICK_BITS - length)));
  }
}

/** The lengths of one code's words, written as steps from the one before. */
export function readCode(input: BitInput, symbolCount: number): HuffmanCode {
  const lengths = new Uint8Array(symbolCount);
  let length = input.read(5);
  for (let symbol = 0; symbol < symbolCount; symbol++) {
    for (;;) {
      if (length < 1 || length > LENGTH_MAX) throw new Bzip2Error("a code of an impossible length");
      if (input.read(1) === 0) break;
      length += input.read(1) === 0 ? 1 : -1;
    }
    lengths[symbol] = length;
  }
  return new HuffmanCode(lengths);
}
