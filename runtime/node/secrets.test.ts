import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { loadSecrets } from "./secrets.ts";

const NONE = { jwt: null, crypt: null };

test("secrets are made once, readable by their owner only", async () => {
  await using base = await withTemporaryFolder();
  const folder = join(base.path, "secrets");

  const first = await loadSecrets(NONE, folder, true);
  const second = await loadSecrets(NONE, folder, false);

  expect(second).toEqual(first);
  expect(first.jwt.length).toBe(64);
  expect(first.jwt).not.toEqual(first.crypt.slice(0, 64));
  expect(await readdir(folder)).toEqual(["crypt", "jwt"]);
  expect((await stat(join(folder, "crypt"))).mode & 0o777).toBe(0o600);
});

test("a lost secret is not made anew beside an existing database", async () => {
  await using base = await withTemporaryFolder();
  const folder = join(base.path, "secrets");
  await mkdir(folder);
  await loadSecrets(NONE, folder, true);
  await rm(join(folder, "crypt"));

  await expect(loadSecrets(NONE, folder, false)).rejects.toThrow(/crypt is missing.*GRADIENT_CRYPT_SECRET_FILE/);
});

test("a secret of the operator's is taken instead", async () => {
  await using base = await withTemporaryFolder();
  const jwt = new Uint8Array(40).fill(7);

  const secrets = await loadSecrets({ jwt, crypt: null }, base.path, true);

  expect(secrets.jwt).toEqual(jwt);
  expect(await readdir(base.path)).toEqual(["crypt"]);
});
