import type { ByteStream } from "./streams.ts";

/** The input is no xz file, or one that takes more memory to unpack than is allowed. */
export class XzGuardError extends Error {
  override readonly name = "XzGuardError";
}

const HEADER_BYTES = 12;
const MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
/** Of the check behind a block, by its type in the stream's flags. */
const CHECK_BYTES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
const LZMA2 = 0x21;
const CRC_BYTES = 4;

/**
 * Passes an xz file through and throws at the first block whose dictionary is larger than `bytesMax`: that is what a
 * decoder takes in memory, up to 4 GiB for a file of some kilobytes, and the package that decodes has no limit for it.
 * Only what has to be known to get from block to block is looked at (the .xz file format, version 1.1.0, and the chunks
 * of LZMA2); whether the rest is right is the decoder's to say.
 */
export async function* withinDictionary(body: ByteStream, bytesMax: number): AsyncGenerator<Uint8Array> {
  const walk = new Walk(streams(bytesMax));
  for await (const chunk of body) {
    walk.push(chunk);
    yield chunk;
  }
}

/** Asks for so many bytes, or, when it is negative, for as many to be passed over. */
type Steps = Generator<number, void, Uint8Array>;

const NOTHING = new Uint8Array(0);

/** Gives the steps their bytes, whatever the cut of the chunks. */
class Walk {
  readonly #steps: Steps;
  #wanted: number;
  #held: Uint8Array = NOTHING;

  constructor(steps: Steps) {
    this.#steps = steps;
    this.#wanted = steps.next().value as number;
  }

  push(chunk: Uint8Array): void {
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#wanted < 0) {
        const passed = Math.min(-this.#wanted, chunk.length - offset);
        offset += passed;
        this.#wanted += passed;
        if (this.#wanted === 0) this.#go(NOTHING);
        continue;
      }
      const part = chunk.subarray(offset, offset + this.#wanted - this.#held.length);
      offset += part.length;
      const bytes = new Uint8Array(this.#held.length + part.length);
      bytes.set(this.#held);
      bytes.set(part, this.#held.length);
      this.#held = bytes;
      if (bytes.length < this.#wanted) return;
      this.#held = NOTHING;
      this.#go(bytes);
    }
  }

  #go(bytes: Uint8Array): void {
    let { value } = this.#steps.next(bytes);
    while (value === 0) value = this.#steps.next(NOTHING).value;
    this.#wanted = value as number;
  }
}

/** One stream after the other, with padding of zeros in between; it never ends by itself. */
function* streams(bytesMax: number): Steps {
  for (;;) {
    const start = yield 4;
    if (start.every((byte) => byte === 0)) continue;
    const header = Uint8Array.from([...start, ...(yield HEADER_BYTES - start.length)]);
    if (MAGIC.some((byte, index) => header[index] !== byte)) throw new XzGuardError("it does not begin as xz files do");
    const check = CHECK_BYTES[(header[7] as number) & 15] as number;
    for (;;) {
      const size = (yield 1)[0] as number;
      if (size === 0) break;
      requireWithin(yield 4 * size + 3, bytesMax);
      const dataBytes: number = yield* chunks();
      yield -((4 - (dataBytes % 4)) % 4);
      yield -check;
    }
    yield* index();
    yield -HEADER_BYTES;
  }
}

/** `rest` is a block's header behind its first byte. */
function requireWithin(rest: Uint8Array, bytesMax: number): void {
  const flags = rest[0] as number;
  let at = 1;
  const number = () => {
    let value = 0;
    for (let shift = 0; shift < 63; shift += 7) {
      const byte = rest[at++];
      if (byte === undefined) throw new XzGuardError("the header of a block is not whole");
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new XzGuardError("a number in the header of a block is too large");
  };
  if (flags & 0x40) number();
  if (flags & 0x80) number();
  for (let filter = 0; filter <= (flags & 3); filter++) {
    const [id, properties] = [number(), number()];
    if (id === LZMA2) {
      const bytes = dictionaryBytes(rest[at] ?? Number.NaN);
      if (!(bytes <= bytesMax)) throw new XzGuardError(`its dictionary has ${bytes} bytes, ${bytesMax} are allowed`);
    }
    at += properties;
  }
  if (at > rest.length - CRC_BYTES) throw new XzGuardError("the header of a block is not whole");
}

function dictionaryBytes(code: number): number {
  if (code > 40) return Number.NaN;
  return code === 40 ? 2 ** 32 - 1 : (2 | (code & 1)) * 2 ** ((code >> 1) + 11);
}

/** The chunks of LZMA2 up to their end. Returns how many bytes they were. */
function* chunks(): Generator<number, number, Uint8Array> {
  let total = 1;
  for (;;) {
    const control = (yield 1)[0] as number;
    if (control === 0) return total;
    if (control > 2 && control < 0x80) throw new XzGuardError("a chunk of a kind that is not known");
    const isPlain = control <= 2;
    const sizes = yield isPlain ? 2 : 4;
    const size = 1 + 256 * (sizes.at(-2) as number) + (sizes.at(-1) as number);
    const rest = size + (control >= 0xc0 ? 1 : 0);
    total += 1 + sizes.length + rest;
    yield -rest;
  }
}

/** Behind its first byte. */
function* index(): Steps {
  let bytes = 1;
  function* number(): Generator<number, number, Uint8Array> {
    let value = 0;
    for (let shift = 0; shift < 63; shift += 7) {
      const byte = (yield 1)[0] as number;
      bytes++;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new XzGuardError("a number in the index is too large");
  }
  const records: number = yield* number();
  for (let record = 0; record < records; record++) {
    yield* number();
    yield* number();
  }
  yield -((4 - (bytes % 4)) % 4);
  yield -CRC_BYTES;
}
