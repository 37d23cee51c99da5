import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Hash } from "./hash.ts";
import { NARINFO_BYTES_MAX, type NarInfo, NarInfoParseError, parseNarInfo, printNarInfo } from "./narinfo.ts";
import type { StorePath } from "./store-path.ts";

const HASH = "lpg73p3x49mjkxrdj3vxhhzslln67blr";
const DIGEST = "sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic";
const MINIMAL = `StorePath: /nix/store/${HASH}-a\nURL: nar/x.nar\nNarHash: ${DIGEST}\nNarSize: 120\n`;
const FULL = `StorePath: /nix/store/${HASH}-a
URL: nar/x.nar.zst
Compression: zstd
FileHash: ${DIGEST}
FileSize: 0
NarHash: ${DIGEST}
NarSize: 120
References: ${HASH}-a ${HASH}-b
Deriver: ${HASH}-a.drv
Sig: one:AAAA
Sig: two:BBBB
CA: fixed:r:${DIGEST}
`;

const anyPath = fc
  .string({ unit: fc.constantFrom(..."0123456789abcdfghijklmnpqrsvwxyz"), minLength: 32, maxLength: 32 })
  .map((hash) => `/nix/store/${hash}-x` as StorePath);
const anyHash = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes): Hash => ({ algorithm: "sha256", digest: new Uint8Array(bytes) }));
const anyWord = fc.string({ unit: fc.constantFrom(..."abz09/.?=-+:"), minLength: 1, maxLength: 12 });
const anyNarInfo: fc.Arbitrary<NarInfo> = fc.record({
  storePath: anyPath,
  url: anyWord,
  compression: anyWord,
  fileHash: fc.option(anyHash),
  fileSize: fc.option(fc.maxSafeNat()),
  narHash: anyHash,
  narSize: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  references: fc.uniqueArray(anyPath, { maxLength: 4 }).map((paths) => paths.sort()),
  deriver: fc.option(anyPath),
  signatures: fc.array(
    anyWord.map((word) => `k:${word}`),
    { maxLength: 3 },
  ),
  ca: fc.option(anyWord),
});

describe("narinfo", () => {
  test("what Nix writes is printed back to the letter", () => {
    expect(printNarInfo(parseNarInfo(FULL))).toBe(FULL);
    expect(parseNarInfo(FULL)).toMatchObject({
      storePath: `/nix/store/${HASH}-a`,
      fileSize: 0,
      narSize: 120,
      references: [`/nix/store/${HASH}-a`, `/nix/store/${HASH}-b`],
      deriver: `/nix/store/${HASH}-a.drv`,
      signatures: ["one:AAAA", "two:BBBB"],
    });
  });

  test("any narinfo survives printing and parsing", () => {
    fc.assert(
      fc.property(anyNarInfo, (info) => {
        expect(parseNarInfo(printNarInfo(info))).toEqual(info);
      }),
    );
  });

  test("order, unknown fields and what may be absent do not matter", () => {
    const lines = MINIMAL.trimEnd().split("\n").reverse();
    const info = parseNarInfo(`${lines.join("\n")}\nSomething: new\nDeriver: unknown-deriver\n`);
    expect(info).toMatchObject({ compression: "bzip2", fileHash: null, fileSize: null, deriver: null, ca: null });
    expect(printNarInfo(info)).toContain("\nReferences: \n");
  });

  test.each([
    ["an end without line break", MINIMAL.slice(0, -1), "cut off"],
    ["carriage returns", MINIMAL.replaceAll("\n", "\r\n"), "control character"],
    ["no NAR hash", MINIMAL.replace("NarHash", "Other"), "NarHash is missing"],
    ["no URL", MINIMAL.replace("URL", "Uri"), "URL is missing"],
    ["a size of 0", MINIMAL.replace("120", "0"), "NarSize is 0"],
    ["a negative size", MINIMAL.replace("120", "-1"), "NarSize is no size"],
    ["a size beyond what can be counted", MINIMAL.replace("120", "9007199254740993"), "NarSize is no size"],
    ["a NAR hash that is not SHA-256", MINIMAL.replace(DIGEST, `sha1:${"0".repeat(32)}`), "not a SHA-256"],
    ["a hash that is none", MINIMAL.replace(DIGEST, "sha256:abc"), "NarHash is no hash"],
    ["another store", MINIMAL.replace("/nix/store", "/gnu/store"), "StorePath is no store path"],
    ["a field twice", `${MINIMAL}NarSize: 121\n`, "twice"],
    ["a reference that is a full path", `${MINIMAL}References: /nix/store/${HASH}-a\n`, "reference"],
    ["an empty line", `${MINIMAL}\n`, "line 5"],
    ["a field without the space", `${MINIMAL}References:\n`, "line 5"],
    ["a signature without a name", `${MINIMAL}Sig: :AAAA\n`, "signature"],
    ["a URL with a space", MINIMAL.replace("nar/x.nar", "nar/x y"), "URL"],
    ["nothing", "", "cut off"],
    ["too much", `${MINIMAL}X: ${"x".repeat(NARINFO_BYTES_MAX)}\n`, "larger"],
    ["too many lines", MINIMAL + "X: y\n".repeat(300), "lines"],
  ])("%s is refused", (_, text, message) => {
    expect(() => parseNarInfo(text)).toThrow(message);
    expect(() => parseNarInfo(text)).toThrow(NarInfoParseError);
  });

  test("damaged text is refused by the parser's own error or read as what it says", () => {
    fc.assert(
      fc.property(fc.nat(FULL.length - 1), fc.string({ maxLength: 3 }), (offset, patch) => {
        try {
          const info = parseNarInfo(FULL.slice(0, offset) + patch + FULL.slice(offset + 1));
          expect(parseNarInfo(printNarInfo(info))).toEqual({ ...info, references: [...info.references].sort() });
        } catch (error) {
          if (!(error instanceof NarInfoParseError)) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });
});
