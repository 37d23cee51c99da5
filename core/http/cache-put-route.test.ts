import fc from "fast-check";
import { expect, test } from "vitest";
import { parsePutRoute } from "./cache-put-route.ts";

const HASH = "0123456789abcdfghijklmnpqrsvwxyz";
const FILE = `${"0".repeat(51)}1`;

test.each([
  ["/cache/main/nix-cache-info", "info"],
  [`/cache/main/${HASH}.narinfo`, "narinfo"],
  [`/cache/main/nar/${FILE}.nar`, "nar"],
  [`/cache/main/nar/${FILE}.nar.xz`, "nar"],
  [`/cache/main/nar/${FILE}.nar.bz2`, "nar"],
  [`/cache/main/${HASH}.ls`, "derived"],
  [`/cache/main/debuginfo/${"0a".repeat(20)}.debug`, "derived"],
  [`/cache/main/log/${HASH}-hello-2.12.drv`, "log"],
])("%s is what Nix puts: %s", (path, kind) => {
  expect(parsePutRoute(path)).toMatchObject({ cache: "main", kind });
});

test.each([
  "/cache/main/",
  "/cache/main",
  "/cache//nix-cache-info",
  "/cache/Main/nix-cache-info",
  "/cache/main/../other/nix-cache-info",
  "/cache/main/x/nix-cache-info",
  `/cache/main/nar/../${HASH}.narinfo`,
  `/cache/main/${HASH}.narinfo/`,
  `/cache/main/${HASH.replace("0", "e")}.narinfo`,
  `/cache/main/${HASH}.narinfo%00`,
  `/cache/main/nar/${FILE}`,
  `/cache/main/nar/${FILE}.nar.`,
  `/cache/main/nar/${FILE}.nar.xz.zst`,
  `/cache/main/nar/${FILE}.nar/x`,
  `/cache/main/nar/z${FILE.slice(1)}.nar`,
  `/cache/main/log/${HASH}-hello`,
  `/cache/main/log/${HASH}-a/b.drv`,
  `/cache/main/log/%2e%2e-${HASH}.drv`,
  "/api/v1/caches",
])("%s is nothing that is taken", (path) => {
  expect(parsePutRoute(path)).toBeNull();
});

test("whatever the path, it is one of a cache below /cache/, or nothing", () => {
  const piece = fc.oneof(
    fc.constantFrom("/", "..", ".", "%2f", "\0", "cache", "main", "nar", "log", HASH, FILE, ".narinfo", ".nar", ".xz"),
    fc.string({ maxLength: 5 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const path = `/cache/${pieces.join("")}`;
      const route = parsePutRoute(path);
      if (route) expect(path.startsWith(`/cache/${route.cache}/`)).toBe(true);
    }),
    { numRuns: 500 },
  );
});
