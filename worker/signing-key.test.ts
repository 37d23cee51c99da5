import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { sha256 } from "#core/nix/hash.ts";
import { fingerprint, type PublicKey, parsePublicKey, type SignedFacts, verify } from "#core/nix/signature.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { loadSigner, SigningKeyError } from "./signing-key.ts";

const WORKER = "550e8400-e29b-41d4-a716-446655440001";
const FACTS: SignedFacts = {
  storePath: "/nix/store/0000000000000000000000000000000a-x" as StorePath,
  narHash: { algorithm: "sha256", digest: await sha256(new Uint8Array(1)) },
  narSize: 120,
  references: [],
};

test("a worker without a key file makes a key that only its user can read, and keeps it", async () => {
  await using folder = await withTemporaryFolder();
  const place = { file: null, dataDir: join(folder.path, "state"), workerId: WORKER };
  const first = await loadSigner(place);
  const second = await loadSigner(place);

  const key = parsePublicKey(first.publicKey) as PublicKey;
  expect(key.name).toBe(`gradient-worker-${WORKER}`);
  expect(second.publicKey).toBe(first.publicKey);
  expect(await verify(key, fingerprint(FACTS), await second.sign(FACTS))).toBe(true);
  expect((await stat(join(place.dataDir, "signing-key"))).mode & 0o777).toBe(0o600);
});

test("a key file that is not there, or is none, stops the start and is not replaced", async () => {
  await using folder = await withTemporaryFolder();
  const file = join(folder.path, "key");
  const place = { file, dataDir: folder.path, workerId: WORKER };
  await expect(loadSigner(place)).rejects.toThrow(/is not there.*--generate-binary-cache-key/);
  await writeFile(file, "builder-1:AAAA\n");
  await expect(loadSigner(place)).rejects.toThrow(SigningKeyError);
  // The two halves of two keys.
  await writeFile(file, `builder-1:${Buffer.alloc(64, 1).toString("base64")}\n`);
  await expect(loadSigner(place)).rejects.toThrow(/does not belong to its seed/);
  expect(await readFile(file, "utf8")).toContain("builder-1");

  await writeFile(join(folder.path, "signing-key"), "broken");
  await expect(loadSigner({ ...place, file: null })).rejects.toThrow(/holds no secret key/);
  expect(await readFile(join(folder.path, "signing-key"), "utf8")).toBe("broken");
});
