import fc from "fast-check";
import { expect, test } from "vitest";
import { isCachePath, parseCacheRoute, rawPath, splitUrl } from "./cache-route.ts";

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

const UPSTREAM = "01890000-0000-7000-8000-000000000000";
const BUILD_ID = "ab".repeat(20);

test("what people's tools ask for is recognised", () => {
  expect(parseCacheRoute(`/cache/main/${HASH}.ls`)).toEqual({ kind: "listing", cache: "main", hash: HASH });
  expect(parseCacheRoute(`/cache/main/ls/${HASH}`)).toEqual({ kind: "listing", cache: "main", hash: HASH });
  expect(parseCacheRoute("/cache/main/gradient-cache-info")).toEqual({ kind: "gradientInfo", cache: "main" });
  for (const name of [BUILD_ID, `${BUILD_ID}.debug`]) {
    expect(parseCacheRoute(`/cache/main/debuginfo/${name}`)).toMatchObject({ kind: "debugInfo", buildId: BUILD_ID });
  }
  for (const name of ["a%2Bb.drv", "a+b.drv"]) {
    const derivation = `/nix/store/${HASH}-a+b.drv`;
    expect(parseCacheRoute(`/cache/main/log/${HASH}-${name}`)).toMatchObject({ kind: "log", derivation });
  }
  for (const mark of ["!", "%21"]) {
    const derivation = `sha256:${"0".repeat(64)}`;
    const route = { kind: "realisation", cache: "main", derivation, output: "out" };
    expect(parseCacheRoute(`/cache/main/realisations/${derivation}${mark}out.doi`)).toEqual(route);
  }
});

test("a file below a path is named by its names, decoded once", () => {
  const file = (path: string) => {
    const route = parseCacheRoute(`/cache/main/serve/${HASH}${path}`);
    return route?.kind === "file" ? route.file : null;
  };
  expect(file("")).toEqual({ names: [], asFolder: false });
  expect(file("/")).toEqual({ names: [], asFolder: true });
  expect(file("/a/%252e%252e")).toEqual({ names: ["a", "%2e%2e"], asFolder: false });
  expect(file("/%C3%BC%3F/...")).toEqual({ names: ["ü?", "..."], asFolder: false });
  expect(file("/a/")).toEqual({ names: ["a"], asFolder: true });
  for (const path of [
    "x",
    "//",
    "/a//b",
    "/.",
    "/..",
    "/a/../b",
    "/%2e",
    "/%2E%2e/x",
    "/a%2fb",
    "/%00",
    "/%",
    "/%c3",
  ]) {
    expect(file(path)).toBeNull();
  }
  expect(file(`/${"a/".repeat(5_000)}`)?.names).toHaveLength(5_000);
  expect(file(`/${"a/".repeat(10_000)}`)).toBeNull();
});

test("a file of an upstream keeps its name and query, and never leaves the upstream's folder", () => {
  const file = (path: string, query = "") => {
    const route = parseCacheRoute(`/cache/main/nar/upstream/${UPSTREAM}/${path}`, query);
    return route?.kind === "relayedNar" ? route.file : null;
  };
  expect(file("nar/x%2Bx.nar.xz", "?hash=a%2Fb")).toEqual({
    upstreamId: UPSTREAM,
    path: "nar/x%2Bx.nar.xz?hash=a%2Fb",
  });
  for (const path of [
    "",
    "..",
    "a/..",
    "a/%2e%2e/b",
    "%2E./a",
    ".",
    "a/%2f/b",
    "a\\b",
    "a%5c..",
    "a%00",
    "ä",
    "a b",
    "%",
  ]) {
    expect(file(path)).toBeNull();
  }
  expect(file("a".repeat(2_000))).toBeNull();
  expect(file("a", `?${"a".repeat(2_000)}`)).toBeNull();
});

test.each([
  `/cache/main/${HASH}.ls/`,
  `/cache/main/ls/${HASH}.ls`,
  `/cache/main/debuginfo/${BUILD_ID.slice(1)}`,
  `/cache/main/debuginfo/${BUILD_ID.toUpperCase()}`,
  `/cache/main/debuginfo/../${BUILD_ID}`,
  `/cache/main/log/${HASH}-a`,
  `/cache/main/log/${HASH}-a.drv/`,
  `/cache/main/log/${HASH}-a%2f..%2fb.drv`,
  `/cache/main/log/../${HASH}-a.drv`,
  `/cache/main/log/${HASH}-${"a".repeat(300)}.drv`,
  `/cache/main/realisations/sha256:${"0".repeat(64)}!a/b.doi`,
  `/cache/main/realisations/sha256:${"0".repeat(63)}!out.doi`,
  `/cache/main/nar/upstream/${UPSTREAM.slice(1)}/a`,
])("%j leads nowhere either", (path) => {
  expect(parseCacheRoute(path)).toBeNull();
});

const anyPart = fc.oneof(
  fc.constantFrom(
    "..",
    ".",
    "",
    "%2e%2e",
    "%2f",
    "%00",
    "%",
    "%25",
    "\\",
    "\0",
    "nar",
    "log",
    "serve",
    "ls",
    "upstream",
  ),
  fc.constantFrom(HASH, FILE, UPSTREAM, BUILD_ID, `${HASH}-a.drv`, `${HASH}.ls`, `${HASH}.narinfo`, `${FILE}.nar.zst`),
  fc.string({ maxLength: 20 }),
  fc.string({ unit: "binary", maxLength: 8 }),
);

test("whatever is asked, the answer is a route without a way out, or none", () => {
  fc.assert(
    fc.property(fc.array(anyPart, { maxLength: 8 }), fc.string({ maxLength: 10 }), (parts, query) => {
      const route = parseCacheRoute(`/cache/main/${parts.join("/")}`, query);
      if (!route) return;
      expect(route.cache).toBe("main");
      if (route.kind === "file") {
        for (const name of route.file.names) expect(["", ".", ".."].includes(name) || /[/\0]/.test(name)).toBe(false);
      }
      if (route.kind === "relayedNar") {
        const url = new URL(route.file.path, "https://upstream.example.org/folder/");
        expect(url.href.startsWith("https://upstream.example.org/folder/")).toBe(true);
      }
      if ("hash" in route) expect(route.hash).toMatch(/^[0-9a-z]{32}$/);
      if (route.kind === "log") expect(route.derivation).toMatch(/^\/nix\/store\/[0-9a-z]{32}-[^/\0]+\.drv$/);
    }),
    { numRuns: 3_000 },
  );
});

test("every URL has a path, whatever it is", () => {
  fc.assert(
    fc.property(fc.webUrl({ withQueryParameters: true, withFragments: true }), (url) => {
      const { href, pathname, search } = new URL(url);
      // A question mark alone is no query to `URL`.
      const { path, query } = splitUrl(href);
      expect([path, query.replace(/^\?$/, "")]).toEqual([pathname, search]);
    }),
  );
  fc.assert(fc.property(fc.string(), (text) => void splitUrl(text)));
});
