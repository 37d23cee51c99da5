import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { heapBytesOfEach } from "#test/support/heap.ts";
import { fromHex, toHex } from "../lib/bytes.ts";
import { decodeBase32, encodeBase32 } from "./base32.ts";

describe("Nix's base 32", () => {
  test("a hash is one string in memory, in base 16 too", () => {
    const digests = Array.from({ length: 20_000 }, (_, index) => new Uint8Array(32).fill(index));
    for (const write of [encodeBase32, toHex]) {
      // 1,600 where it is a tree of its characters.
      expect(heapBytesOfEach(digests.length, () => digests.map((digest) => write(digest)))).toBeLessThan(300);
    }
  });

  test("writes what nix-hash writes", () => {
    const digest = fromHex("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    expect(encodeBase32(digest as Uint8Array)).toBe("094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic");
    expect(encodeBase32(new Uint8Array())).toBe("");
  });

  test("reads back every byte string it wrote", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
        expect(decodeBase32(encodeBase32(bytes))).toEqual(bytes);
      }),
    );
  });

  test("accepts a text only when it would write the same text", () => {
    const text = fc.string({ unit: fc.constantFrom(..."0123456789abcdfghijklmnpqrsvwxyz"), maxLength: 60 });
    fc.assert(
      fc.property(text, (candidate) => {
        const bytes = decodeBase32(candidate);
        if (bytes) expect(encodeBase32(bytes)).toBe(candidate);
      }),
    );
  });

  test.each(["e", "0e", "0A", "zz", "0", "000", "0é", "00 "])("refuses %j", (text) => {
    expect(decodeBase32(text)).toBeNull();
  });
});
