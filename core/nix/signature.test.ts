import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Bytes, fromHex, toBase64 } from "../lib/bytes.ts";
import { type Hash, parseHash } from "./hash.ts";
import {
  fingerprint,
  formatPublicKey,
  formatSecretKey,
  generateKeyPair,
  KeyMismatchError,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  sign,
  verify,
} from "./signature.ts";
import type { StorePath } from "./store-path.ts";

const HASH = "lpg73p3x49mjkxrdj3vxhhzslln67blr";
const bytesOf = (hex: string) => fromHex(hex) as Bytes;
const DIGEST = "sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic";

describe("signatures of paths", () => {
  test("the fingerprint is of full paths, sorted, each once", () => {
    const path = (name: string) => `/nix/store/${HASH}-${name}` as StorePath;
    const facts = { storePath: path("a"), narHash: parseHash(DIGEST) as Hash, narSize: 120 };
    expect(fingerprint({ ...facts, references: [path("c"), path("b"), path("c")] })).toBe(
      `1;/nix/store/${HASH}-a;${DIGEST};120;/nix/store/${HASH}-b,/nix/store/${HASH}-c`,
    );
    expect(fingerprint({ ...facts, references: [] })).toBe(`1;/nix/store/${HASH}-a;${DIGEST};120;`);
  });

  test("what one key signed is verified by its public half alone", async () => {
    const { secretKey, publicKey } = await generateKeyPair("cache.example.org-main");
    const other = await generateKeyPair("cache.example.org-main");
    const signature = await sign(secretKey, "text");
    expect(await verify(publicKey, "text", signature)).toBe(true);
    expect(await verify(publicKey, "texts", signature)).toBe(false);
    expect(await verify(other.publicKey, "text", signature)).toBe(false);
    expect(await verify({ ...publicKey, name: "other" }, "text", signature)).toBe(false);
    expect(await verify(publicKey, "text", signature.replace("main:", "main: "))).toBe(false);
    expect(await verify(publicKey, "text", "cache.example.org-main:AAAA")).toBe(false);
    expect(await verify(publicKey, "text", "")).toBe(false);
  });

  test("keys survive being written down, and sign the same", async () => {
    const { secretKey, publicKey } = await generateKeyPair("k");
    const secretAgain = parseSecretKey(formatSecretKey(secretKey));
    const publicAgain = parsePublicKey(formatPublicKey(publicKey));
    if (!secretAgain || !publicAgain) throw new Error("a key that was just written was refused");
    expect(publicKeyOf(secretAgain)).toEqual(publicAgain);
    expect(await sign(secretAgain, "text")).toBe(await sign(secretKey, "text"));
    expect(await verify(publicAgain, "text", await sign(secretAgain, "text"))).toBe(true);
  });

  test("the known vector of RFC 8032 section 7.1 is reproduced", async () => {
    const seed = bytesOf("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    const publicBytes = bytesOf("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    const signature = await sign({ name: "rfc", seed, publicBytes }, "");
    const expected = bytesOf(
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155" +
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    expect(signature).toBe(`rfc:${toBase64(expected)}`);
  });

  test("a secret key whose halves do not belong together signs nothing", async () => {
    const { secretKey } = await generateKeyPair("k");
    const mixed = { ...secretKey, publicBytes: (await generateKeyPair("k")).publicKey.bytes };
    await expect(sign(mixed, "text")).rejects.toThrow(KeyMismatchError);
  });

  test("keys that are none are refused", async () => {
    const bytes32 = "A".repeat(43);
    const bad = ["", ":", "k:", `:${bytes32}=`, `k:${bytes32}`, `k k:${bytes32}=`, `k:${bytes32}=\n`, "k:AAAA"];
    for (const text of bad) {
      expect(parsePublicKey(text), text).toBeNull();
      expect(parseSecretKey(text), text).toBeNull();
    }
    expect(parsePublicKey(`k:${bytes32}=`)).not.toBeNull();
    expect(parseSecretKey(`k:${bytes32}=`)).toBeNull();
    await expect(generateKeyPair("a:b")).rejects.toThrow(TypeError);
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(parsePublicKey(text) ?? parseSecretKey(text)).toBeNull();
      }),
    );
  });
});
