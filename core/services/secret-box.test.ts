import { expect, test } from "vitest";
import { utf8 } from "../lib/bytes.ts";
import { createSecretBox, parseCryptSecret, SecretBoxError } from "./secret-box.ts";

const place = { table: "cache", column: "secret_key", id: "1" };
const secret = utf8("the secret");

test("a secret opens again, in its own place, under its own crypt secret", async () => {
  const box = await createSecretBox(utf8("0123456789abcdef"));
  const sealed = await box.seal(place, secret);
  expect(await box.open(place, sealed)).toEqual(secret);
  const again = await createSecretBox(utf8("0123456789abcdef"));
  expect(await again.open(place, sealed)).toEqual(secret);

  const other = await createSecretBox(utf8("0123456789abcdeX"));
  await expect(other.open(place, sealed)).rejects.toThrow(SecretBoxError);
  for (const elsewhere of [{ id: "2" }, { column: "other" }, { table: "other" }]) {
    await expect(box.open({ ...place, ...elsewhere }, sealed)).rejects.toThrow(SecretBoxError);
  }
});

test("no two sealed values are alike, and every changed byte is noticed", async () => {
  const box = await createSecretBox(utf8("0123456789abcdef"));
  const sealed = await box.seal(place, secret);
  expect(await box.seal(place, secret)).not.toEqual(sealed);
  for (let i = 0; i < sealed.length; i++) {
    const changed = sealed.slice();
    changed[i] = (changed[i] as number) ^ 1;
    await expect(box.open(place, changed)).rejects.toThrow(SecretBoxError);
  }
  await expect(box.open(place, sealed.slice(0, 20))).rejects.toThrow(SecretBoxError);
});

test("a crypt secret is taken as it is from 16 bytes on, else as base64", () => {
  expect(parseCryptSecret(utf8("0123456789abcdef"))).toEqual(utf8("0123456789abcdef"));
  expect(() => parseCryptSecret(utf8("c2hvcnQ="))).toThrow(SecretBoxError);
  expect(() => parseCryptSecret(utf8(""))).toThrow(SecretBoxError);
});
