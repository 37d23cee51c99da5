import { expect, test } from "vitest";
import type { StorePath } from "#core/nix/store-path.ts";
import { DEFAULT_SOCKET_PATH, parseStoreUrl, realPath, StoreUrlError } from "./store-url.ts";

test.each(["", "auto", "daemon", "unix://"])("%j is the machine's daemon", (value) => {
  expect(parseStoreUrl(value)).toEqual({ socketPath: DEFAULT_SOCKET_PATH, root: "" });
});

test.each([
  ["unix:///run/d.sock", { socketPath: "/run/d.sock", root: "" }],
  ["unix:///run/d.sock?root=/srv/a/", { socketPath: "/run/d.sock", root: "/srv/a" }],
  ["unix:///run/a%20b?root=%2Fsrv%2Fa%3Db", { socketPath: "/run/a b", root: "/srv/a=b" }],
])("%s names a socket and a root", (value, store) => {
  expect(parseStoreUrl(value)).toEqual(store);
});

test.each([
  "https://cache.example.org",
  "local",
  "ssh://host",
  "unix://relative.sock",
  "unix:///s?root=relative",
  "unix:///s?trusted=1",
  "unix:///s?root=%zz",
])("%s is refused with what to use", (value) => {
  expect(() => parseStoreUrl(value)).toThrow(StoreUrlError);
});

test("files of a store with a root are below it", () => {
  const path = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hi" as StorePath;
  expect(realPath({ socketPath: "", root: "/srv/a" }, path)).toBe(`/srv/a${path}`);
  expect(realPath({ socketPath: "", root: "" }, path)).toBe(path);
});
