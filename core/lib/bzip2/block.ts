import { type BitInput, Bzip2Error } from "./bits.ts";
import { type HuffmanCode, readCode } from "./huffman.ts";

/** Symbols that one code is used for before the next selector counts. */
const GROUP_SYMBOLS = 50;
const CODES_MIN = 2;
const CODES_MAX = 6;
/** What the largest block needs. Writers that give more are read, the rest passed over. */
const SELECTORS_USED_MAX = 18_002;
/** The first two symbols are digits of the length of a run. */
const RUN_B = 1;
const RUN_LENGTH_MAX = 2 * 1024 * 1024;

/** A block's bytes before they are put back into their order. */
export interface Block {
  readonly checksum: number;
  /** Where in the sorted rotations the text itself is. */
  readonly origin: number;
  readonly length: number;
}

/**
 * Reads a block after its mark: the bytes come into `sorted`, one in the low 8 bits of each element, and `counts` says
 * how often each byte is there. `sorted` is as long as the largest block of the stream.
 */
export function readBlock(input: BitInput, sorted: Uint32Array, counts: Uint32Array): Block {
  const checksum = input.read32();
  if (input.read(1) === 1) throw new Bzip2Error("a randomised block, as no bzip2 since 0.9.5 writes them");
  const origin = input.read(24);
  const present = readPresentBytes(input);
  const codeCount = input.read(3);
  if (codeCount < CODES_MIN || codeCount > CODES_MAX) throw new Bzip2Error("an impossible number of codes");
  const selectors = readSelectors(input, codeCount);
  const codes = Array.from({ length: codeCount }, () => readCode(input, present.length + 2));
  input.requireNotPassed();
  counts.fill(0);
  const length = readSymbols(input, { codes, selectors, present, sorted, counts });
  input.requireNotPassed();
  if (origin >= length) throw new Bzip2Error("a block that begins outside of itself");
  return { checksum, origin, length };
}

/** Which bytes are in the block at all, ascending: two levels of 16 bits. */
function readPresentBytes(input: BitInput): Uint8Array {
  const present: number[] = [];
  const ranges = input.read(16);
  for (let range = 0; range < 16; range++) {
    if ((ranges & (0x8000 >> range)) === 0) continue;
    const bits = input.read(16);
    for (let bit = 0; bit < 16; bit++) if ((bits & (0x8000 >> bit)) !== 0) present.push(16 * range + bit);
  }
  if (present.length === 0) throw new Bzip2Error("a block without bytes");
  return Uint8Array.from(present);
}

/** Which code is used for each group: places in a list that moves what was used to its front. */
function readSelectors(input: BitInput, codeCount: number): Uint8Array {
  const count = input.read(15);
  if (count === 0) throw new Bzip2Error("a block without selectors");
  const selectors = new Uint8Array(Math.min(count, SELECTORS_USED_MAX));
  const order = Uint8Array.from({ length: codeCount }, (_, code) => code);
  for (let index = 0; index < count; index++) {
    let place = 0;
    while (input.read(1) === 1) if (++place >= codeCount) throw new Bzip2Error("a selector of no code");
    const code = moveToFront(order, place);
    if (index < selectors.length) selectors[index] = code;
  }
  return selectors;
}

interface Symbols {
  readonly codes: readonly HuffmanCode[];
  readonly selectors: Uint8Array;
  readonly present: Uint8Array;
  readonly sorted: Uint32Array;
  readonly counts: Uint32Array;
}

/** Undoes the codes, the runs of the front byte and the move to the front. Returns the number of bytes. */
function readSymbols(input: BitInput, { codes, selectors, present, sorted, counts }: Symbols): number {
  const order = present.slice();
  const endSymbol = present.length + 1;
  let length = 0;
  let runLength = 0;
  let runDigit = 1;
  for (const selector of selectors) {
    const code = codes[selector] as HuffmanCode;
    for (let i = 0; i < GROUP_SYMBOLS; i++) {
      const symbol = code.decode(input);
      if (symbol <= RUN_B) {
        // Digits 1 and 2 to the base 2, the lowest first.
        if (runDigit > RUN_LENGTH_MAX) throw new Bzip2Error("a run longer than any block");
        runLength += runDigit << symbol;
        runDigit <<= 1;
        continue;
      }
      if (runLength > 0) {
        length = repeat(order[0] as number, { runLength, length, sorted, counts });
        runLength = 0;
        runDigit = 1;
      }
      if (symbol === endSymbol) return length;
      if (length >= sorted.length) throw tooLong();
      const byte = moveToFront(order, symbol - 1);
      sorted[length++] = byte;
      (counts[byte] as number)++;
    }
  }
  throw new Bzip2Error("a block that goes on after its last selector");
}

function repeat(
  byte: number,
  { runLength, length, sorted, counts }: { runLength: number; length: number } & Pick<Symbols, "sorted" | "counts">,
): number {
  const end = length + runLength;
  if (end > sorted.length) throw tooLong();
  sorted.fill(byte, length, end);
  (counts[byte] as number) += runLength;
  return end;
}

/** Most moves are short: a call into the engine costs more than the loop. */
function moveToFront(order: Uint8Array, place: number): number {
  const moved = order[place] as number;
  if (place > 32) order.copyWithin(1, 0, place);
  else for (let i = place; i > 0; i--) order[i] = order[i - 1] as number;
  order[0] = moved;
  return moved;
}

function tooLong(): Bzip2Error {
  return new Bzip2Error("a block longer than its stream allows");
}
