import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { utf8 } from "../lib/bytes.ts";
import { parseHash, parseSha256Hex } from "./hash.ts";
import {
  derivationPath,
  makeFixedOutputPath,
  makeTextPath,
  parseStorePath,
  parseStorePathBaseName,
  StorePathNameError,
  storePathBaseName,
  storePathHash,
  storePathName,
} from "./store-path.ts";

const HASH = "lpg73p3x49mjkxrdj3vxhhzslln67blr";

describe("store paths", () => {
  test("a path is taken apart and put together again", () => {
    const path = parseStorePath(`/nix/store/${HASH}-hello-2.12.1`);
    if (!path) throw new Error("a well-formed path was refused");
    expect([storePathHash(path), storePathName(path), storePathBaseName(path)]).toEqual([
      HASH,
      "hello-2.12.1",
      `${HASH}-hello-2.12.1`,
    ]);
    expect(parseStorePathBaseName(storePathBaseName(path))).toBe(path);
  });

  test.each([".gitignore", "...", "a", "A+-._?=9", "-x", "x".repeat(211), "..a"])("the name %j is allowed", (name) => {
    expect(parseStorePath(`/nix/store/${HASH}-${name}`)).not.toBeNull();
  });

  test.each(["", ".", "..", ".-x", "..-x", "a/b", "a b", "a\n", "ä", "x".repeat(212), "a\0", "a~", "a:b"])(
    "the name %j is refused",
    (name) => {
      expect(parseStorePath(`/nix/store/${HASH}-${name}`)).toBeNull();
      expect(parseStorePathBaseName(`${HASH}-${name}`)).toBeNull();
    },
  );

  test.each([
    `${HASH}-a`,
    `/nix/store/${HASH}`,
    `/nix/store/${HASH}-`,
    `/nix/store/${HASH.slice(1)}-ab`,
    `/nix/store/e${HASH.slice(1)}-a`,
    `/nix/store/${HASH.toUpperCase()}-a`,
    `/nix/store//${HASH}-a`,
    `/nix/store/${HASH}-a/`,
    `/gnu/store/${HASH}-a`,
    "",
  ])("%j is no store path", (text) => {
    expect(parseStorePath(text)).toBeNull();
  });

  test("any text is either refused or a path that is its own text", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const path = parseStorePath(text) ?? parseStorePathBaseName(text);
        if (path) expect(path.endsWith(text)).toBe(true);
      }),
    );
  });
});

describe("making store paths", () => {
  const hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

  test("a fixed output goes where Nix puts it, whatever way it is hashed", async () => {
    const flat = parseSha256Hex(hello);
    const sha1 = parseHash("sha1:aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d");
    if (!flat || !sha1) throw new Error("the digests of this test are well-formed");
    expect(await makeFixedOutputPath("fod", { recursive: false, hash: flat })).toBe(
      "/nix/store/9q0mqp4y1k819ysjzsfjah1ld74x19w2-fod",
    );
    expect(await makeFixedOutputPath("fod", { recursive: true, hash: flat })).toBe(
      "/nix/store/38kzy8h3fl0q6bf72hzbhwsbwmrssdk7-fod",
    );
    expect(await makeFixedOutputPath("fod", { recursive: true, hash: sha1 })).toBe(
      "/nix/store/3azr6gcgml7iac7mnys7cfpbd3hkjfs9-fod",
    );
  });

  test("a text goes where builtins.toFile puts it, and the order of references does not matter", async () => {
    const first = await makeTextPath("a", utf8("A"), []);
    const second = await makeTextPath("b", utf8("B"), []);
    expect(first).toBe("/nix/store/draf2pm7skqzj8g3kv0bamg214p6sd70-a");
    const both = await makeTextPath("c", utf8("C"), [first, second]);
    expect(await makeTextPath("c", utf8("C"), [second, first, second])).toBe(both);
    expect(await makeTextPath("c", utf8("C"), [first])).not.toBe(both);
  });

  test("a derivation's path ends in .drv, and a name that cannot be is refused", async () => {
    expect(await derivationPath("x", utf8(""), [])).toBe(await makeTextPath("x.drv", utf8(""), []));
    await expect(makeTextPath("a/b", utf8(""), [])).rejects.toThrow(StorePathNameError);
    await expect(makeTextPath("x".repeat(212), utf8(""), [])).rejects.toThrow("1 to 211");
  });
});
