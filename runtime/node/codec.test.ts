import { setImmediate as nextTurn } from "node:timers/promises";
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";
import { xz } from "@napi-rs/lzma";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fromBase64 } from "#core/lib/bytes.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import type { Compression } from "#core/ports/codec.ts";
import { nodeCodec } from "./codec.ts";

const LIMIT = 64 * 1024 * 1024;
/** By bzip2 1.0.8. */
const THREE_MILLION_SEVENS = fromBase64(
  "QlpoOTFBWSZTWamDhJQAFvpACICAQAAACCAAMMwJqmmpAi2pIEXi7kinChIVMHCSgA==",
) as Uint8Array;

const compressors: Record<"zstd" | "gzip" | "br" | "xz", (data: Uint8Array) => Uint8Array> = {
  zstd: (data) => zstdCompressSync(data),
  gzip: (data) => gzipSync(data),
  br: (data) => brotliCompressSync(data),
  xz: (data) => xz.compressSync(data),
};
const names = Object.keys(compressors) as (keyof typeof compressors)[];

describe.each(names)("%s", (name) => {
  test("gives back what was compressed, however the bytes are cut", async () => {
    const property = fc.asyncProperty(
      fc.uint8Array({ maxLength: 20_000 }),
      fc.integer({ min: 1, max: 5_000 }),
      async (data, pieceLength) => {
        const file = compressors[name](data);
        expect(await unpack(name, ...pieces(file, pieceLength))).toEqual(Uint8Array.from(data));
      },
    );
    await fc.assert(property, { numRuns: 20 });
  });

  test("throws when the end is missing", async () => {
    const file = compressors[name](new Uint8Array(100_000).map((_, i) => (i * i) % 251));
    for (const length of [0, 1, 5, file.length >> 1, file.length - 1]) {
      await expect(unpack(name, file.subarray(0, length)), `${length} bytes`).rejects.toThrow();
    }
  });

  test("throws on what is not its format", async () => {
    await expect(unpack(name, new TextEncoder().encode("\xff\xff this is no such file at all"))).rejects.toThrow();
  });

  test("passes the source's failure on", async () => {
    const file = compressors[name](new Uint8Array(1_000));
    async function* broken() {
      yield file.subarray(0, 10);
      throw new Error("the line went dead");
    }
    await expect(collect(nodeCodec.decompress(name, broken()) as AsyncIterable<Uint8Array>, LIMIT)).rejects.toThrow(
      "the line went dead",
    );
  });
});

test("compressing and decompressing with zstd is the identity, and the frame carries a checksum", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 50_000 }), fc.integer({ min: 1, max: 9 }), async (data, level) => {
      const file = await collect(nodeCodec.compressZstd(streamOf(data), { level }), LIMIT);
      expect((file[4] as number) & 0b100).toBe(0b100);
      expect(await unpack("zstd", file)).toEqual(Uint8Array.from(data));
    }),
    { numRuns: 30 },
  );
});

test("what follows the end of a zstd file is an error, however the bytes are cut, and at once too", async () => {
  const data = new Uint8Array(3_000).map((_, i) => (i * i) % 251);
  const file = zstdCompressSync(data);
  const longer = Uint8Array.from([...file, 1, 2, 3, 4]);
  for (const length of [longer.length, file.length, 100]) {
    await expect(unpack("zstd", ...pieces(longer, length)), `pieces of ${length}`).rejects.toThrow();
  }
  const unpackAtOnce = nodeCodec.unpackZstdAtOnce ?? (() => null);
  expect(unpackAtOnce(longer, data.length)).toBeNull();
  expect(unpackAtOnce(file.subarray(0, file.length - 1), data.length)).toBeNull();
  expect(unpackAtOnce(file, data.length - 1)).toBeNull();
  expect(new Uint8Array(unpackAtOnce(file, data.length) ?? [])).toEqual(data);
});

test("a slow reader holds the source back, and one that stops releases it", async () => {
  let given = 0;
  let released = false;
  async function* source() {
    try {
      for (;;) {
        given++;
        yield crypto.getRandomValues(new Uint8Array(65_536));
      }
    } finally {
      released = true;
    }
  }

  for await (const _ of nodeCodec.compressZstd(source(), { level: 1 })) {
    for (let turn = 0; turn < 200; turn++) await nextTurn();
    break;
  }
  await expect.poll(() => released).toBe(true);

  expect(given).toBeLessThan(40);
});

test("bzip2 is unpacked beside the main thread, which goes on answering, and a reader that stops ends it", async () => {
  const data = new Uint8Array(3_000_000).fill(7);
  let turns = 0;
  const ticking = setInterval(() => turns++, 1);
  expect(await unpack("bzip2", ...pieces(THREE_MILLION_SEVENS, 10))).toEqual(data);
  clearInterval(ticking);
  expect(turns).toBeGreaterThan(2);

  let released = false;
  async function* source() {
    try {
      for (;;) yield THREE_MILLION_SEVENS;
    } finally {
      released = true;
    }
  }
  for await (const _ of nodeCodec.decompress("bzip2", source()) as AsyncIterable<Uint8Array>) break;
  expect(released).toBe(true);
  await expect(unpack("bzip2", THREE_MILLION_SEVENS.subarray(0, 40))).rejects.toThrow("it ends too early");
  await expect(unpack("bzip2", new TextEncoder().encode("no such file"))).rejects.toThrow("does not begin");
});

test("none passes through", () => {
  const body = streamOf(Uint8Array.of(1, 2));
  expect(nodeCodec.decompress("none", body)).toBe(body);
});

function unpack(name: Compression, ...file: Uint8Array[]): Promise<Uint8Array> {
  return collect(nodeCodec.decompress(name, streamOf(...file)) as AsyncIterable<Uint8Array>, LIMIT);
}

function pieces(data: Uint8Array, length: number): Uint8Array[] {
  const all: Uint8Array[] = [];
  for (let start = 0; start < data.length; start += length) all.push(data.subarray(start, start + length));
  return all;
}
