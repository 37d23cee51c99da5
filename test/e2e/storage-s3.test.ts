import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openS3BlobStore } from "#runtime/node/s3/blob-store.ts";
import { createS3Client } from "#runtime/node/s3/client.ts";
import type { S3Settings } from "#runtime/node/s3/settings.ts";
import { nixAvailable } from "../support/nix.ts";
import { radosgwAvailable, withBucket } from "../support/radosgw.ts";
import { withTemporaryFolder } from "../support/temporary-folder.ts";
import { outputOf } from "./builds.ts";
import { CacheClient, fetchNarInfo } from "./cache-client.ts";
import { commitFlake } from "./flake.ts";
import { addProject, CACHE, type Gradient, withGradient } from "./gradient.ts";
import { startService } from "./process.ts";
import { finishedObjects } from "./storage.ts";

const ready = nixAvailable().ok && radosgwAvailable();

const FLAKE = `{
  outputs = { self }: let
    mk = name: script: derivation {
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    };
    # Of three parts in S3.
    large = mk "large" "head -c 20000000 /dev/urandom > $out";
  in { packages.x86_64-linux = { inherit large; app = mk "app" "echo \${large} > $out"; }; };
}
`;

async function serverSettings(folder: string, { endpoint, bucket, credentials }: S3Settings) {
  const secretFile = join(folder, "s3-secret");
  await writeFile(secretFile, `${credentials?.secretAccessKey}\n`);
  return {
    GRADIENT_S3_BUCKET: bucket,
    GRADIENT_S3_ENDPOINT: endpoint ?? "",
    GRADIENT_S3_ACCESS_KEY_ID: credentials?.accessKeyId ?? "",
    GRADIENT_S3_SECRET_ACCESS_KEY_FILE: secretFile,
    GRADIENT_S3_PREFIX: "gradient",
    // The bucket of this test is on the loopback, as its clients are.
    GRADIENT_S3_REDIRECT: "true",
  };
}

/** From where a large NAR is answered; small ones the server keeps in memory. */
async function narAnswer(gradient: Gradient, path: string): Promise<Response> {
  const url = /^URL: (.*)$/m.exec(await (await fetchNarInfo(gradient, path)).text())?.[1];
  const answer = await fetch(`${gradient.url}/cache/${CACHE}/${url}`, { redirect: "manual" });
  await answer.body?.cancel();
  return answer;
}

async function restart(gradient: Gradient, change: Record<string, string | null>): Promise<void> {
  await gradient.server.stop();
  for (const [name, value] of Object.entries(change)) {
    if (value === null) delete gradient.serverEnv[name];
    else gradient.serverEnv[name] = value;
  }
  await gradient.startServer();
}

describe.skipIf(!ready)("what is built is kept in S3", () => {
  test("stock Nix fetches it from there, also while all of it moves to the disk and back", async () => {
    await using folder = await withTemporaryFolder();
    const bucket = await withBucket();
    await using gradient = await withGradient(await serverSettings(folder.path, bucket));
    const url = await commitFlake(join(gradient.folder, "app"), { "flake.nix": FLAKE }, "An app");
    const evaluation = await gradient.api.evaluate(await addProject(gradient.api, "app", url, "packages.*"));
    expect(await gradient.api.waitForEnd(evaluation, 60_000)).toMatchObject({ status: "Completed" });
    const app = await outputOf(gradient, evaluation, "app");
    const large = await outputOf(gradient, evaluation, "large");
    expect(await finishedObjects(gradient)).toEqual([]);
    expect((await narAnswer(gradient, large)).status).toBe(307);
    await new CacheClient(gradient, "from-s3").copyAndVerify(app);

    // Before anything is copied, everything is answered; what is killed goes on.
    await restart(gradient, { GRADIENT_STORAGE_MOVING_TO: "disk" });
    await new CacheClient(gradient, "before-the-move").copyAndVerify(app);
    const killed = migrate(gradient);
    await expect.poll(() => killed.output() !== "" || finishedObjects(gradient), { timeout: 20_000 }).not.toEqual([]);
    await killed.kill();
    expect(await migrate(gradient, "--delete").ended).toBe(0);
    await new CacheClient(gradient, "after-the-move").copyAndVerify(app);

    expect(await objectsIn(bucket)).toBe(0);
    await restart(gradient, { GRADIENT_STORAGE_MOVING_TO: null, GRADIENT_S3_BUCKET: null, ...WITHOUT_S3 });
    expect((await narAnswer(gradient, large)).status).toBe(200);
    await new CacheClient(gradient, "from-disk").copyAndVerify(app);

    await restart(gradient, { ...(await serverSettings(folder.path, bucket)), GRADIENT_STORAGE_MOVING_TO: "s3" });
    expect((await narAnswer(gradient, large)).status).toBe(200);
    expect(await migrate(gradient, "--delete").ended).toBe(0);
    expect((await narAnswer(gradient, large)).status).toBe(307);
    expect(await finishedObjects(gradient)).toEqual([]);
    await new CacheClient(gradient, "from-s3-again").copyAndVerify(app);
  }, 120_000);
});

const WITHOUT_S3 = {
  GRADIENT_S3_ENDPOINT: null,
  GRADIENT_S3_ACCESS_KEY_ID: null,
  GRADIENT_S3_SECRET_ACCESS_KEY_FILE: null,
};

function migrate({ serverEnv }: Gradient, ...more: readonly string[]) {
  return startService("runtime/node/main.ts", serverEnv, ["migrate-storage", ...more]);
}

async function objectsIn(settings: S3Settings): Promise<number> {
  const client = createS3Client(settings);
  const { objects } = await openS3BlobStore(client, { ...settings, prefix: "gradient/" }).list("");
  client.destroy();
  return objects.length;
}
