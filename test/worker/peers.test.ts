import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { toBase64 } from "#core/lib/bytes.ts";
import { parsePeers, readPeers, tokensFor } from "#worker/peers.ts";
import { withTemporaryFolder } from "../support/temporary-folder.ts";

const ONE = "01900000-0000-7000-8000-000000000001";
const TWO = "01900000-0000-7000-8000-000000000002";
const STRANGER = "01900000-0000-7000-8000-000000000003";

function token(byte: number): string {
  return toBase64(new Uint8Array(48).fill(byte));
}

test("a challenge is answered for the peers that the worker has tokens for, in their order", () => {
  const peers = parsePeers(`${ONE}:${token(1)}\n${TWO.toUpperCase()} : ${token(2)}\r\n`, "peers");

  expect(peers.problems).toEqual([]);
  expect(tokensFor(peers, [TWO, STRANGER, ONE])).toEqual([
    { peer: TWO, token: token(2) },
    { peer: ONE, token: token(1) },
  ]);
});

test("a star answers every challenge that has no token of its own", () => {
  const peers = parsePeers(`*:${token(9)}\n${ONE}:${token(1)}`, "peers");

  expect(tokensFor(peers, [STRANGER, ONE])).toEqual([
    { peer: STRANGER, token: token(9) },
    { peer: ONE, token: token(1) },
  ]);
});

test("a bad line is skipped and reported by its number, without its token", () => {
  const lines = [
    "# mine",
    "",
    "no-colon",
    `peer:${token(1)}`,
    `${ONE}:short`,
    `${TWO}:${token(2)}`,
    `*:${"A".repeat(63)}`,
  ];
  const peers = parsePeers(lines.join("\n"), "/run/peers");

  expect(peers.problems).toEqual([
    "/run/peers, line 3 is skipped: it is not of the form peer_id:token",
    "/run/peers, line 4 is skipped: its peer is no UUID and not *",
    "/run/peers, line 5 is skipped: its token is not base64 of 48 bytes (64 characters)",
    "/run/peers, line 7 is skipped: its token is not base64 of 48 bytes (64 characters)",
  ]);
  expect([...peers.tokens.keys()]).toEqual([TWO]);
  expect(peers.anyToken).toBeNull();
});

test("a token that is added works at the next challenge, and a missing file is a problem and no crash", async () => {
  await using folder = await withTemporaryFolder();
  const source = { file: join(folder.path, "peers"), text: `*:${token(9)}` };

  const missing = await readPeers(source);
  await writeFile(source.file, `${ONE}:${token(1)}\n`);
  const first = await readPeers(source);
  await writeFile(source.file, `${ONE}:${token(2)}\n`);
  const second = await readPeers(source);

  expect(missing.problems).toEqual([expect.stringContaining("cannot be read: ENOENT")]);
  expect(tokensFor(missing, [ONE])).toEqual([]);
  expect(tokensFor(first, [ONE])).toEqual([{ peer: ONE, token: token(1) }]);
  expect(tokensFor(second, [ONE])).toEqual([{ peer: ONE, token: token(2) }]);
});

test("a file that is no list of tokens is not read into memory", async () => {
  await using folder = await withTemporaryFolder();
  const file = join(folder.path, "peers");
  await writeFile(file, "#".repeat(1024 * 1024 + 1));

  expect((await readPeers({ file, text: null })).problems).toEqual([expect.stringContaining("is larger than")]);
});
