import { setImmediate as nextTurn } from "node:timers/promises";
import { zstdCompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { collect, streamOf } from "#core/lib/streams.ts";
import { nodeCodec } from "./codec.ts";

const LIMIT = 64 * 1024 * 1024;

test("a zstd file of several frames is read to its end, however the bytes are cut", async () => {
  const parts = [3_000, 0, 400_000, 1].map((length) => new Uint8Array(length).map((_, i) => (i >> 3) % 251));
  const file = Buffer.concat(parts.map((part) => zstdCompressSync(part)));
  const whole = Uint8Array.from(Buffer.concat(parts));
  for (const length of [file.length, 1_000, 7, 1]) {
    expect(await unpack(...pieces(file, length)), `pieces of ${length}`).toEqual(whole);
  }
  await expect(unpack(file.subarray(0, -1))).rejects.toThrow();
});

test("the same bytes become the same zstd file, whenever they come", async () => {
  const data = new Uint8Array(2_000_000).fill(120);
  const files = new Set<string>();
  for (let round = 0; round < 40; round++) {
    async function* source() {
      for (const piece of pieces(data, 300_000)) {
        if (round % 4 === 0) await nextTurn();
        else for (let turn = 0; turn < round; turn++) await Promise.resolve();
        yield piece;
      }
    }
    files.add(Buffer.from(await collect(nodeCodec.compressZstd(source(), { level: 3 }), LIMIT)).toString("hex"));
  }
  expect(files.size).toBe(1);
});

function unpack(...file: Uint8Array[]): Promise<Uint8Array> {
  return collect(nodeCodec.decompress("zstd", streamOf(...file)) as AsyncIterable<Uint8Array>, LIMIT);
}

function pieces(data: Uint8Array, length: number): Uint8Array[] {
  const all: Uint8Array[] = [];
  for (let start = 0; start < data.length; start += length) all.push(data.subarray(start, start + length));
  return all;
}
