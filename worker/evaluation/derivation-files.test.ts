import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseStorePath, type StorePath } from "#core/nix/store-path.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { DerivationFiles } from "./derivation-files.ts";

const PATH = parseStorePath(`/nix/store/${"0".repeat(32)}-x.drv`) as StorePath;

test("a derivation that is a link is not followed: it may lead to a device that never ends", async () => {
  await using folder = await withTemporaryFolder();
  await mkdir(join(folder.path, "nix/store"), { recursive: true });
  await symlink("/dev/null", join(folder.path, PATH));
  await expect(new DerivationFiles(folder.path, 100).read(PATH)).rejects.toThrow("cannot be read: it is a link");
});

test("what is larger than the limit, or not what its path says, is an error with the path", async () => {
  await using folder = await withTemporaryFolder();
  await mkdir(join(folder.path, "nix/store"), { recursive: true });
  const aterm = 'Derive([("out","","","")],[],[],"x","/bin/sh",[],[])';
  await writeFile(join(folder.path, PATH), aterm);
  await expect(new DerivationFiles(folder.path, 10).read(PATH)).rejects.toThrow(`${PATH} cannot be read: it is larger`);
  await expect(new DerivationFiles(folder.path, 1_000).read(PATH)).rejects.toThrow(PATH);
});
