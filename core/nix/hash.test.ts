import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toHex, utf8 } from "../lib/bytes.ts";
import { formatHash, type HashAlgorithm, parseHash, parseSha256Hex, sha256 } from "./hash.ts";

const HELLO_HEX = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const SIZES: Record<HashAlgorithm, number> = { md5: 16, sha1: 20, sha256: 32, sha512: 64, blake3: 32 };

const anyHash = fc
  .constantFrom(...(Object.keys(SIZES) as HashAlgorithm[]))
  .chain((algorithm) =>
    fc
      .uint8Array({ minLength: SIZES[algorithm], maxLength: SIZES[algorithm] })
      .map((bytes) => ({ algorithm, digest: new Uint8Array(bytes) })),
  );

describe("hashes", () => {
  test("every spelling of a hash is read as the same hash", () => {
    const spellings = [
      `sha256:${HELLO_HEX}`,
      `sha256:${HELLO_HEX.toUpperCase()}`,
      "sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
      "sha256:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
      "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
    ];
    for (const spelling of spellings) {
      const hash = parseHash(spelling);
      expect(hash && formatHash(hash, "hex"), spelling).toBe(`sha256:${HELLO_HEX}`);
    }
  });

  test("each format is read back, for each algorithm", () => {
    fc.assert(
      fc.property(anyHash, fc.constantFrom("nix32", "hex", "sri"), (hash, format) => {
        expect(parseHash(formatHash(hash, format as "nix32"))).toEqual(hash);
      }),
    );
  });

  test.each([
    "",
    HELLO_HEX,
    `sha256:${HELLO_HEX.slice(1)}`,
    `sha1:${HELLO_HEX}`,
    `sha3:${HELLO_HEX}`,
    `sha256-${HELLO_HEX}`,
    `sha256:${HELLO_HEX}\n`,
    "sha256:",
    "SHA256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
    "sha256:z94qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic",
  ])("refuses %j", (text) => {
    expect(parseHash(text)).toBeNull();
  });

  test("a bare digest is exactly 64 hexadecimal digits", async () => {
    expect(parseSha256Hex(HELLO_HEX)?.digest).toEqual(await sha256(utf8("hello")));
    expect(toHex(await sha256(utf8("hello")))).toBe(HELLO_HEX);
    expect(parseSha256Hex(HELLO_HEX.slice(2))).toBeNull();
    expect(parseSha256Hex(HELLO_HEX.replace("2", "g"))).toBeNull();
  });
});
