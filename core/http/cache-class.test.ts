import { expect, test } from "vitest";
import { classifyCacheTarget } from "./cache-class.ts";

const HASH = "0c5b8vw40dy178xlpddw65q9gf1h2186";

test("what a cache is asked for falls into the tier of its cost", () => {
  const cases: [string, string | undefined][] = [
    [`/cache/main/${HASH}.narinfo`, "cacheHot"],
    ["/cache/main/nix-cache-info", "cacheHot"],
    ["/cache/main/gradient-cache-info", "cacheHot"],
    ["/cache/main/nar/abc.nar.zst", "cacheHot"],
    ["/cache/main/nar/upstream/x/nar/abc.nar.xz", "cacheHot"],
    [`/cache/main/${HASH}.ls`, "cacheBrowse"],
    [`/cache/main/ls/${HASH}`, "cacheBrowse"],
    [`/cache/main/serve/${HASH}/share/doc/index.html`, "cacheBrowse"],
    [`/cache/main/log/${HASH}-hello.drv`, "cacheLog"],
    ["/cache/main/anything", "cacheHot"],
    ["/cache/", "cacheHot"],
    ["/api/v1/health", undefined],
    ["/", undefined],
  ];
  for (const [target, tier] of cases) expect([target, classifyCacheTarget(target)?.tier]).toEqual([target, tier]);
});

test("its figures go under patterns, of which there are few", () => {
  const routes = ["a", "b"].map((cache) => classifyCacheTarget(`/cache/${cache}/${HASH}.narinfo`)?.route);

  expect(routes).toEqual(["/cache/:cache/:hash.narinfo", "/cache/:cache/:hash.narinfo"]);
});
