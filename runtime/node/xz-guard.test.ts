import { spawnSync } from "node:child_process";
import { xz } from "@napi-rs/lzma";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { concatBytes, utf8 } from "#core/lib/bytes.ts";
import { collect } from "#core/lib/streams.ts";
import { withinDictionary } from "#core/lib/xz-guard.ts";

const MIB = 1024 * 1024;

function guarded(file: Uint8Array, { pieceLength = 1_000, bytesMax = 64 * MIB } = {}): Promise<Uint8Array> {
  async function* pieces() {
    for (let start = 0; start < file.length; start += pieceLength) yield file.subarray(start, start + pieceLength);
  }
  return collect(withinDictionary(pieces(), bytesMax), 2 ** 30);
}

test("files of the package pass, however they are cut, and so do several behind each other", async () => {
  const property = fc.asyncProperty(
    fc.uint8Array({ maxLength: 5_000, size: "max" }),
    fc.integer({ min: 1, max: 400 }),
    async (data, pieceLength) => {
      const file = new Uint8Array(xz.compressSync(data));
      const twice = concatBytes([file, new Uint8Array(8), file]);
      expect(await guarded(file, { pieceLength })).toEqual(file);
      expect(await guarded(twice, { pieceLength })).toEqual(twice);
    },
  );
  await fc.assert(property, { numRuns: 50 });
});

test("what is no xz file is refused", async () => {
  await expect(guarded(utf8("this is no such file at all"))).rejects.toThrow("does not begin as xz files do");
  const file = new Uint8Array(xz.compressSync(utf8("hello")));
  await expect(guarded(concatBytes([file, utf8("more and more and more")]))).rejects.toThrow("does not begin");
});

const command = spawnSync("xz", ["--version"]).error === undefined;

describe.skipIf(!command)("files of the xz command", () => {
  const packed = (data: Uint8Array, ...options: string[]): Uint8Array => {
    const { stdout, stderr } = spawnSync("xz", ["-c", ...options], { input: data, maxBuffer: 2 ** 30 });
    expect(stderr.toString()).toBe("");
    return new Uint8Array(stdout);
  };
  const data = concatBytes([crypto.getRandomValues(new Uint8Array(60_000)), new Uint8Array(3 * MIB).fill(7)]);

  test.each([
    "-0",
    "-9",
    "--check=none",
    "--check=sha256",
    "--block-size=100000",
    "-T2 --block-size=300000",
    "--x86 --lzma2=preset=6",
    "--delta=dist=4 --lzma2=dict=4KiB",
  ])("pass: %s", async (options) => {
    const file = packed(data, ...options.split(" "));
    expect(await guarded(file, { pieceLength: 777 })).toEqual(file);
  });

  test("a large dictionary is refused, in whatever block or stream it comes", async () => {
    const large = packed(data, "--lzma2=preset=0,dict=65MiB");
    await expect(guarded(large)).rejects.toThrow(/its dictionary has \d+ bytes, 67108864 are allowed/);
    const behind = concatBytes([packed(data, "--block-size=100000"), large]);
    await expect(guarded(behind, { pieceLength: 50_000 })).rejects.toThrow("its dictionary has");
    expect(await guarded(large, { bytesMax: 128 * MIB })).toEqual(large);
    await expect(guarded(packed(data, "--x86", "--lzma2=dict=1GiB"))).rejects.toThrow("its dictionary has");
    await expect(guarded(packed(data, "-1"), { bytesMax: MIB - 1 })).rejects.toThrow("its dictionary has");
  });
});
