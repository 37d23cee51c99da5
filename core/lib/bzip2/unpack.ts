import type { ByteStream } from "../streams.ts";
import { BitInput, Bzip2Error } from "./bits.ts";
import { type Block, readBlock } from "./block.ts";

export { Bzip2Error } from "./bits.ts";

/**
 * What the largest block takes at most, packed: 900 000 symbols of 20 bits, with the tables before them. Read ahead, so
 * that a block is decoded in one go.
 */
const BLOCK_PACKED_BYTES_MAX = 2_400_000;
const LEVEL_BYTES = 100_000;
const MARK_HALF_BITS = 24;
/** Pi and the square root of pi in decimal: a block, and the end of a stream. */
const BLOCK_MARK = [0x314159, 0x265359] as const;
const END_MARK = [0x177245, 0x385090] as const;
const OUTPUT_BYTES = 256 * 1024;
/** Four equal bytes are followed by how often the byte comes again. */
const EQUAL_BEFORE_COUNT = 4;

/** CRC-32 with the polynomial 0x04c11db7, the highest bit first. */
const CHECKSUMS = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 24;
  for (let bit = 0; bit < 8; bit++) value = value & 0x80000000 ? (value << 1) ^ 0x04c11db7 : value << 1;
  return value >>> 0;
});

/**
 * Unpacks bzip2 files, also several behind each other, in constant memory (some 8 MB). What is damaged or cut off
 * throws `Bzip2Error`; so does what follows the last file. A block of 900 KB is decoded without a pause, which takes
 * some 50 ms: where that holds up others, run it on a thread of its own.
 */
export async function* unpackBzip2(body: ByteStream): AsyncGenerator<Uint8Array> {
  const input = new BitInput(body);
  try {
    do {
      yield* unpackStream(input);
      input.skipToByte();
      await input.buffer(1);
    } while (!input.isAtEnd);
  } finally {
    await input.return();
  }
}

async function* unpackStream(input: BitInput): AsyncGenerator<Uint8Array> {
  await input.buffer(BLOCK_PACKED_BYTES_MAX);
  const level = readLevel(input);
  const sorted = new Uint32Array(level * LEVEL_BYTES);
  const counts = new Uint32Array(256);
  let checksum = 0;
  while (readMark(input) === "block") {
    const block = readBlock(input, sorted, counts);
    yield* output(block, sorted, counts);
    checksum = (((checksum << 1) | (checksum >>> 31)) ^ block.checksum) >>> 0;
    await input.buffer(BLOCK_PACKED_BYTES_MAX);
  }
  const expected = input.read32();
  input.requireNotPassed();
  if (expected !== checksum) throw new Bzip2Error("its checksum is wrong");
}

function readLevel(input: BitInput): number {
  const name = input.read(24);
  const level = input.read(8) - 0x30;
  input.requireNotPassed();
  if (name !== 0x425a68 || level < 1 || level > 9) throw new Bzip2Error("it does not begin as bzip2 files do");
  return level;
}

function readMark(input: BitInput): "block" | "end" {
  const [high, low] = [input.read(MARK_HALF_BITS), input.read(MARK_HALF_BITS)];
  input.requireNotPassed();
  if (high === BLOCK_MARK[0] && low === BLOCK_MARK[1]) return "block";
  if (high === END_MARK[0] && low === END_MARK[1]) return "end";
  throw new Bzip2Error("neither a block nor the end where one must be");
}

/** Puts the bytes into order again and undoes the runs. Throws in the place of the last bytes if they are wrong. */
function* output({ checksum, origin, length }: Block, sorted: Uint32Array, counts: Uint32Array): Generator<Uint8Array> {
  linkRotations(sorted, counts, length);
  let position = (sorted[origin] as number) >>> 8;
  let part = new Uint8Array(OUTPUT_BYTES);
  let filled = 0;
  let crc = 0xffffffff;
  let previous = -1;
  let equal = 0;
  for (let i = 0; i < length; i++) {
    const entry = sorted[position] as number;
    position = entry >>> 8;
    const byte = entry & 0xff;
    let count = 1;
    if (equal === EQUAL_BEFORE_COUNT) {
      count = byte;
      equal = 0;
    } else {
      equal = byte === previous ? equal + 1 : 1;
      previous = byte;
    }
    if (filled + count > OUTPUT_BYTES) {
      yield part.subarray(0, filled);
      part = new Uint8Array(OUTPUT_BYTES);
      filled = 0;
    }
    for (; count > 0; count--) {
      part[filled++] = previous;
      crc = (crc << 8) ^ (CHECKSUMS[((crc >>> 24) ^ previous) & 0xff] as number);
    }
  }
  if (~crc >>> 0 !== checksum) throw new Bzip2Error("the checksum of a block is wrong");
  if (filled > 0) yield part.subarray(0, filled);
}

/** Into the upper 24 bits of each element goes where the byte after it is. */
function linkRotations(sorted: Uint32Array, counts: Uint32Array, length: number): void {
  const starts = new Uint32Array(256);
  for (let byte = 1; byte < 256; byte++) starts[byte] = (starts[byte - 1] as number) + (counts[byte - 1] as number);
  for (let i = 0; i < length; i++) {
    const byte = (sorted[i] as number) & 0xff;
    const place = starts[byte] as number;
    starts[byte] = place + 1;
    sorted[place] = (sorted[place] as number) | (i << 8);
  }
}
