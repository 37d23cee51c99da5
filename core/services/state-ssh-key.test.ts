import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { generateSshKey } from "./ssh-key.ts";
import { publicSshKey, SshKeyError } from "./state-ssh-key.ts";

const run = promisify(execFile);

test("keys of OpenSSH have the public half that OpenSSH gives them", async () => {
  await using folder = await withTemporaryFolder();
  for (const type of ["ed25519", "ecdsa", "rsa"]) {
    const path = join(folder.path, type);
    await run("ssh-keygen", ["-q", "-t", type, "-N", "", "-C", "somebody", "-f", path]);
    const line = await readFile(`${path}.pub`, "utf8");
    expect(publicSshKey(await readFile(path, "utf8"))).toBe(line.split(" ").slice(0, 2).join(" "));
  }
  const own = await generateSshKey("ours");
  expect(own.publicKey).toBe(`${publicSshKey(own.secretKey)} ours`);
});

test("a key with a passphrase, another format and half a key are told apart", async () => {
  await using folder = await withTemporaryFolder();
  const path = join(folder.path, "locked");
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "secret", "-f", path]);
  const locked = await readFile(path, "utf8");
  expect(() => publicSshKey(locked)).toThrow("has a passphrase: make one without, with `ssh-keygen -N ''`");
  expect(() => publicSshKey("ssh-ed25519 AAAA")).toThrow("must be a private key in OpenSSH's format");
  const { secretKey } = await generateSshKey("ours");
  const lines = secretKey.trim().split("\n");
  expect(() => publicSshKey([lines[0], lines.at(-1)].join("\n"))).toThrow("is cut short or damaged");
  expect(() => publicSshKey([...lines.slice(0, 2), lines.at(-1)].join("\n"))).toThrow(SshKeyError);
});

test("whatever a file holds, it is a key or is refused in words", async () => {
  const { secretKey } = await generateSshKey("ours");
  const [head = "", ...rest] = secretKey.trim().split("\n");
  const bytes = Buffer.from(rest.slice(0, -1).join(""), "base64");
  const edit = fc.tuple(fc.nat(bytes.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(edit, { maxLength: 4 }), fc.nat(bytes.length), (edits, length) => {
      const changed = Buffer.from(bytes.subarray(0, length));
      for (const [at, value] of edits) if (at < length) changed[at] = value;
      try {
        expect(publicSshKey(`${head}\n${changed.toString("base64")}\n${rest.at(-1)}`)).toMatch(/^\S+ \S+$/);
      } catch (error) {
        expect(error).toBeInstanceOf(SshKeyError);
      }
    }),
  );
});
