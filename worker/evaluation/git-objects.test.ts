import { expect, test } from "vitest";
import { isGitLink, parseCommitObject, parseGitObjects } from "./git-objects.ts";

const HASH = "0123456789abcdef0123456789abcdef01234567";

test("objects are read one after the other, missing ones among them", () => {
  const output = Buffer.from(`${HASH} blob 5\na\nb\nc\nrefs/x missing\n${HASH} tree 0\n\n`);
  expect(parseGitObjects(output, 3)).toEqual([
    { type: "blob", content: Buffer.from("a\nb\nc") },
    null,
    { type: "tree", content: Buffer.alloc(0) },
  ]);
});

test("what ends in the middle is no answer", () => {
  for (const text of ["", `${HASH} blob 5\nabc`, `${HASH} blob 5\nabcdefgh`, "nonsense\n", `${HASH} blob 5`]) {
    expect(parseGitObjects(Buffer.from(text), 1), text).toBeNull();
  }
});

test("a commit says who made it and what it is about", () => {
  const commit = [
    `tree ${HASH}`,
    "author Ada Lovelace <ada@example.org> 1700000000 +0000",
    "committer Bob <bob@example.org> 1700000000 +0000",
    "gpgsig -----BEGIN PGP SIGNATURE-----",
    " author Mallory <m@example.org>",
    "",
    "first line",
    "goes on",
    "",
    "author Eve <eve@example.org>",
  ].join("\n");
  expect(parseCommitObject(Buffer.from(commit))).toEqual({
    authorName: "Ada Lovelace",
    authorEmail: "ada@example.org",
    message: "first line goes on",
  });
  expect(parseCommitObject(Buffer.from("nothing"))).toEqual({ authorName: "", authorEmail: "", message: "" });
});

test("a tree tells its links from its files", () => {
  const hash = "\x01".repeat(20);
  const tree = Buffer.from(`100644 flake.lock\0${hash}120000 flake.nix\0${hash}`, "latin1");
  expect(["flake.lock", "flake.nix", "flake"].map((name) => isGitLink(tree, name))).toEqual([false, true, false]);
});
