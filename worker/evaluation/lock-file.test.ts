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
  ];
  for (const locked of local) expect(findLocalInputs(lockOf(locked)), JSON.stringify(locked)).toHaveLength(1);
});

test("inputs elsewhere, folders of the flake and what is no lock file are let through", () => {
  const fine = [
    { type: "path", path: "./modules" },
    { type: "path", path: "a/../b" },
    { type: "git", url: "https://example.org/file:/repository" },
    { type: "git", url: "ssh://git@example.org/repository" },
    { type: "github", owner: "file", repo: "path" },
    null,
    7,
  ];
  for (const locked of fine) expect(findLocalInputs(lockOf(locked)), JSON.stringify(locked)).toEqual([]);
  for (const text of ["", "{", "[]", "null", '{"nodes":null}', '{"nodes":{"x":null}}']) {
    expect(findLocalInputs(text)).toEqual([]);
  }
});
