import { spawnSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { concatBytes, fromBase64, utf8 } from "../bytes.ts";
import { collect } from "../streams.ts";
import { unpackBzip2 } from "./unpack.ts";

const LIMIT = 64 * 1024 * 1024;

// Files of bzip2 1.0.8.
const NOTHING = decoded("QlpoORdyRThQkAAAAAA=");
const TEXT = decoded(
  "QlpoOTFBWSZTWUY2g94AAEEBgD6zKAAgAJAgaBoBSpTTTZPVNIG+0Dqge0D1",
  "AxA1QMQPKBiBiBxA0geIHKBugdoGIGUDlA0gbQOqB/F3JFOFCQRjaD3g",
);
/** 700 runs of up to 299 bytes, in blocks of 100 KB. */
const RUNS = decoded(
  "QlpoMTFBWSZTWcttRpMAAiB////////////////////////////////////////////4UAN95SlKeAAgAAAAAAAAADQAAAAAAAAAGgAAAAAAAA",
  "AAAAAAAAAAAAAEAAAAAAAAAAaAAAAAAAAAA0AAAAAAAAAAAAAAAAAAAAAAJKqkf/+qqiYJpppphDIaYTEwCNDRkBkaYEaZBgABMQGEZDIMmhow",
  "RiaZBiZDI0MRkZAyYIMJkaaaAYmmjINGmgbSqk0AAAAAAAANAAANAAAAANAAAAAAAAAAAAAAAAAAAAAAAACUqiB6gAAAAAAf+pUAAAAAAAA0AA",
  "AAAGgAAGgAaNBoaGmmhoaaZGmmmCepgmJ6mJp6JgnqYiBEz/KGDURGosNRsakA1JRqVDUvJoTkgihFHKYQaYVMUmPTKDgZ00RpzWGxNsOJvziH",
  "JHI6R1x0HU8Q8HpHsfiAIMZkURxIDUlhsKKKKKKKKf4ZACCJaUtBBDVBGqKNUkapo1BjVUGqwVwsBZC0FsIQuZdy9l/NmbccTfHCOMcocjonVH",
  "M7Y6jsO48j0PY+j+QJCDMiSMGhIjUlSZJoUUUUUUUUUZIiCIDcY5wJ0gIiVrIFW0ahBq5DV1GrwNXsavw1gTCGHMUY0yBkzLHITlo5J0DpnWHM",
  "dDunfHY8g8HnHo9g+D8P58iCIUZkQRZGjQkCSJMlSYGxNiiiiiiiijAyEREBgb0b0BAlnCFLOjWfGtCNaMa0o1pxrUjWrNaa82Jszao7J40d0e",
  "EeU9A9HrHsfB9PeP5AECQRCEMMyHIkiyMI4aEeSJJDUlCVJcmRsTROCiiiiiiijCDJBgbgSEHNAZAJigCAXOGueNdAa6I10hrpjXUGuqkGkIkK",
  "kMn0Rmn1SHSISJSKIs+xGEaRx9xofgjyQJE/JJH6GpJkofslSWJcmCZP4Nj+k0TZOH+GBgYGBgYGBgYOMAISbCF9hzkKNBgwYMGDBgwYMGDBgw",
  "YMGDBgwYMGDBgwYMGDBgxjGMYxjGMYxjGMYxjGMYxjGMYxjGMYxjGMYxjGMYxjGMYxERERERERERERERERERERERERERERERERERERERERERER",
  "EREREREREREREREREREREREREREREREREREREREREREREREREREREREREREQBAKAUASAkBIH/i7kinChIZbajSY=",
);

function decoded(...lines: string[]): Uint8Array {
  return fromBase64(lines.join("")) as Uint8Array;
}

function unpack(file: Uint8Array, pieceLength = 1_000): Promise<Uint8Array> {
  async function* pieces() {
    for (let start = 0; start < file.length; start += pieceLength) yield file.subarray(start, start + pieceLength);
  }
  return collect(unpackBzip2(pieces()), LIMIT);
}

const text = Uint8Array.from({ length: 3_000 }, (_, i) => 97 + ((i * i) % 23));
const runs = concatBytes(Array.from({ length: 700 }, (_, i) => new Uint8Array(i % 300).fill(i % 5)));

describe("what bzip2 has packed", () => {
  test.each([
    ["nothing", NOTHING, new Uint8Array()],
    ["text", TEXT, text],
    ["long runs in small blocks", RUNS, runs],
  ])("%s comes back, however the bytes are cut", async (_, file, expected) => {
    for (const pieceLength of [1, 7, 100_000]) expect(await unpack(file, pieceLength)).toEqual(expected);
  });

  test("several files behind each other are one body", async () => {
    expect(await unpack(concatBytes([TEXT, NOTHING, TEXT]))).toEqual(concatBytes([text, text]));
  });

  test("a file that is cut off anywhere is refused", async () => {
    for (let length = 0; length < TEXT.length; length++) {
      await expect(unpack(TEXT.subarray(0, length)), `${length} bytes`).rejects.toMatchObject({ name: "Bzip2Error" });
    }
  });

  test("whatever bits are changed, what comes back is never something else", async () => {
    const property = fc.asyncProperty(
      fc.array(fc.nat(8 * RUNS.length - 1), { minLength: 1, maxLength: 4 }),
      async (bits) => {
        const file = RUNS.slice();
        for (const bit of new Set(bits)) file[bit >> 3] = (file[bit >> 3] as number) ^ (1 << (bit & 7));
        const outcome = await unpack(file).catch((error: Error) => error.name);
        // The bits behind the last checksum, up to a whole byte, say nothing.
        if (outcome !== "Bzip2Error") expect(outcome).toEqual(runs);
      },
    );
    await fc.assert(property, { numRuns: 300, examples: [[[8 * RUNS.length - 8]]] });
  });

  test("bytes that are no bzip2 file, and bytes behind one, are refused", async () => {
    await expect(unpack(utf8("this is no such file at all"))).rejects.toThrow("does not begin as bzip2 files do");
    await expect(unpack(concatBytes([TEXT, utf8("more")]))).rejects.toMatchObject({ name: "Bzip2Error" });
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 4_000 }), async (bytes) => {
        const file = concatBytes([TEXT.subarray(0, 10), bytes]);
        await expect(unpack(file)).rejects.toMatchObject({ name: "Bzip2Error" });
      }),
      { numRuns: 100 },
    );
  });

  test("a reader that stops lets go of the source", async () => {
    let released = false;
    async function* source() {
      try {
        for (;;) yield RUNS;
      } finally {
        released = true;
      }
    }
    for await (const _ of unpackBzip2(source())) break;
    expect(released).toBe(true);
  });
});

const command = spawnSync("bzip2", ["--help"]).error === undefined;

test.skipIf(!command)("it reads what the bzip2 command writes, whatever that is", async () => {
  const parts = fc.array(
    fc.oneof(
      fc.uint8Array({ maxLength: 20_000, size: "max" }),
      fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.nat(3_000)).map(([bytes, times]) => {
        return concatBytes(Array.from({ length: times }, () => bytes));
      }),
    ),
    { maxLength: 8 },
  );
  const property = fc.asyncProperty(parts, fc.integer({ min: 1, max: 9 }), async (given, level) => {
    const data = concatBytes(given);
    const { stdout } = spawnSync("bzip2", ["-c", `-${level}`], { input: data, maxBuffer: LIMIT });
    expect(Buffer.compare(await unpack(new Uint8Array(stdout), 65_536), data)).toBe(0);
  });
  await fc.assert(property, { numRuns: 40 });
});
