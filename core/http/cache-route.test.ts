import { expect, test } from "vitest";
import { isCachePath, parseCacheRoute, rawPath } from "./cache-route.ts";

const HASH = "0123456789abcdfghijklmnpqrsvwxyz";
const FILE = `0${HASH}${HASH.slice(0, 19)}`;

test("what a Nix client asks for is recognised", () => {
  expect(parseCacheRoute("/cache/main/nix-cache-info")).toEqual({ kind: "info", cache: "main" });
  expect(parseCacheRoute(`/cache/a-1/${HASH}.narinfo`)).toEqual({ kind: "narinfo", cache: "a-1", hash: HASH });
  expect(parseCacheRoute(`/cache/main/nar/${FILE}.nar.zst`)).toMatchObject({ kind: "nar", cache: "main" });
});

test.each([
  "/cache/",
  "/cache/main",
  "/cache/main/",
  "/cache//nix-cache-info",
  "/cache/-a/nix-cache-info",
  "/cache/a-/nix-cache-info",
  "/cache/Main/nix-cache-info",
  `/cache/${"a".repeat(101)}/nix-cache-info`,
  "/cache/main/nix-cache-info/",
  `/cache/main/${HASH.slice(1)}.narinfo`,
  `/cache/main/${HASH.slice(1)}e.narinfo`,
  `/cache/main/${HASH}.narinfo\n`,
  `/cache/main/../other/${HASH}.narinfo`,
  `/cache/main/%2e%2e/${HASH}.narinfo`,
  `/cache/main/nar/../../../etc/passwd`,
  `/cache/main/nar/..%2f..%2fetc%2fpasswd.nar.zst`,
  `/cache/main/nar/${FILE}.nar.xz`,
  `/cache/main/nar/${FILE.slice(1)}.nar.zst`,
  // One digit too high for 256 bits: no hash is written so.
  `/cache/main/nar/z${FILE.slice(1)}.nar.zst`,
])("%j leads nowhere", (path) => {
  expect(parseCacheRoute(path)).toBeNull();
});

test("the path is taken as it was sent, without the query", () => {
  expect(rawPath("http://host/cache/a/b?c#d")).toBe("/cache/a/b");
  expect(rawPath("http://host")).toBe("/");
  expect(rawPath("http://host/cache/a%2fb")).toBe("/cache/a%2fb");
  expect(isCachePath("/cached")).toBe(false);
});
