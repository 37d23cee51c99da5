import { expect, test } from "vitest";
import { findLocalInputs } from "./lock-file.ts";

function lockOf(locked: unknown): string {
  return JSON.stringify({ version: 7, root: "root", nodes: { root: { inputs: { x: "x" } }, x: { locked } } });
}

test("inputs on the machine that evaluates are found, whatever fetches them", () => {
  const local = [
    { type: "path", path: "/etc" },
    { type: "path", path: "../other" },
    { type: "path", path: "./a/../../other" },
    { type: "git", url: "file:///srv/repository" },
    { type: "git", url: "/srv/repository" },
    { type: "tarball", url: "file:///srv/archive.tar.gz" },
    { type: "hg", url: "FILE:///srv/repository" },
    { type: "tarball", url: "file:/srv/archive.tar.gz" },
    { type: "tarball", url: "gopher://127.0.0.1:6379/_INFO" },
    { type: "git", url: "../repository" },
    { type: "git", url: "ext::sh -c id" },
    { type: "git" },
    { type: "github", owner: "a", repo: "b", url: "file:///srv" },
    { type: "build", path: "/etc" },
  ];
  for (const locked of local) expect(findLocalInputs(lockOf(locked)), JSON.stringify(locked)).toHaveLength(1);
});

test("inputs elsewhere and folders of the flake are let through", () => {
  const fine = [
    { type: "path", path: "./modules" },
    { type: "path", path: "a/../b" },
    { type: "git", url: "https://example.org/file:/repository" },
    { type: "git", url: "ssh://git@example.org/repository" },
    { type: "git", url: "git@example.org:repository" },
    { type: "file", url: "https://example.org/file" },
    { type: "tarball", url: "https://example.org/archive.tar.gz" },
    { type: "indirect", id: "nixpkgs" },
    { type: "github", owner: "file", repo: "path" },
    null,
    7,
  ];
  for (const locked of fine) expect(findLocalInputs(lockOf(locked)), JSON.stringify(locked)).toEqual([]);
  expect(findLocalInputs('{"nodes":{"x":null}}')).toEqual([]);
});

test("a lock that cannot be read is refused: Nix takes a byte order mark, and follows what git shows as a name", () => {
  const marked = `\ufeff${lockOf({ type: "path", path: "/etc" })}`;
  for (const text of ["", "{", "[]", "null", '{"nodes":null}', "locks/flake.lock", marked]) {
    expect(() => findLocalInputs(text), text).toThrow("flake.lock cannot be read");
  }
});
