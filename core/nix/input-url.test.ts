import { expect, test } from "vitest";
import { checkInputUrl, isSshInput } from "./input-url.ts";

const REMOTE = [
  "github:NixOS/nixpkgs/nixos-unstable",
  "gitlab:group%2Fsub/project?host=git.example.org",
  "sourcehut:~user/repo",
  "git+https://example.org/repo?ref=main",
  "git+ssh://git@example.org/repo.git",
  "https://example.org/archive.tar.gz",
  "tarball+https://example.org/x",
  "file+https://example.org/data.json",
];
const LOCAL = ["path:/srv/flake", "git+file:///srv/flake", "file:///srv/x.tar.gz", "path:./sub"];
const NEITHER = [
  "",
  "nixpkgs",
  "flake:nixpkgs",
  "github:owner",
  "https://",
  "git+ssh://-oProxyCommand=x/repo",
  "ssh://git@example.org/repo",
  "git+https://example.org/repo#attribute",
  "git+https://example.org/a b",
  'github:a/b"; evil',
  "javascript:alert(1)",
  "/srv/flake",
];

test("references of forges and whole URLs are taken", () => {
  for (const url of REMOTE) expect(() => checkInputUrl(url, { allowLocal: false }), url).not.toThrow();
});

test("places on the machine that evaluates only where they are allowed", () => {
  for (const url of LOCAL) {
    expect(() => checkInputUrl(url, { allowLocal: false }), url).toThrow("not allowed");
    expect(() => checkInputUrl(url, { allowLocal: true }), url).not.toThrow();
  }
});

test("what a registry would have to explain, and what could be taken for something else, is refused", () => {
  for (const url of NEITHER) expect(() => checkInputUrl(url, { allowLocal: true }), url).toThrow();
});

test("who needs a key is known", () => {
  expect(REMOTE.filter(isSshInput)).toEqual(["git+ssh://git@example.org/repo.git"]);
});
