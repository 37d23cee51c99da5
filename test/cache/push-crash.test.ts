import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { listPathsWithNar } from "#core/db/cache-paths.ts";
import { tidyUploads } from "#core/services/cache-upload-tidy.ts";
import { narOf } from "#core/services/nar.ts";
import { drain } from "#core/services/nar-form.ts";
import { openNar } from "#core/services/nar-open.ts";
import { deleteDiscardedObjects, sweepOrphanObjects } from "#core/services/retention-objects.ts";
import { sweep } from "#core/services/retention-sweep.ts";
import { openDiskBlobStore } from "#runtime/node/disk-blob-store.ts";
import { openS3BlobStore } from "#runtime/node/s3/blob-store.ts";
import { createS3Client } from "#runtime/node/s3/client.ts";
import { radosgwAvailable, withBucket } from "#test/support/radosgw.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import type { DyingServer } from "./push-and-die.ts";
import { PUSH_KINDS, type PushKind, type Send } from "./push-kinds.ts";
import { pushServer } from "./push-server.ts";
import { type LocalPath, type PushBench, type TestPusher, withPushBench } from "./push-support.ts";
import type { TestCache } from "./support.ts";

const ORIGIN = "http://127.0.0.1";
/** More than any kind has. */
const EFFECTS_MAX = 100;
const AT_A_TIME = 2;

let program: string;
let folder: TemporaryFolder;

beforeAll(async () => {
  folder = await withTemporaryFolder();
  program = join(folder.path, "push-and-die.mjs");
  // One file starts in a third of the time that the sources take.
  const banner = {
    js: 'import { createRequire as requireFor } from "node:module"; const require = requireFor(import.meta.url);',
  };
  const entryPoints = [join(import.meta.dirname, "push-and-die.ts")];
  const external = ["@napi-rs/*", "pg-native"];
  await build({
    entryPoints,
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    external,
    banner,
    logLevel: "error",
  });
});
afterAll(() => folder?.[Symbol.asyncDispose]());

function sender(fetch: (request: Request) => Promise<Response>, origin: string): Send {
  return async (method, path, body) => {
    const isJson =
      body !== undefined && !(body instanceof Uint8Array || body instanceof FormData || typeof body === "string");
    const response = await fetch(
      new Request(origin + path, {
        method,
        headers: isJson ? { "content-type": "application/json" } : {},
        ...(body === undefined ? {} : { body: isJson ? JSON.stringify(body) : (body as string) }),
      }),
    );
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === "" ? {} : ((JSON.parse(text) as { message: object }).message as Record<string, unknown>);
  };
}

/** Where the server died, or null when it has answered everything. */
async function pushToDyingServer(told: DyingServer, push: (send: Send) => Promise<void>): Promise<string | null> {
  const child: ChildProcess = spawn(process.execPath, [program, JSON.stringify(told)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  let place = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    place += text;
  });
  try {
    const started = once(child.stdout as NodeJS.ReadableStream, "data");
    const port = await Promise.race([started.then(([text]) => Number(text)), exited.then(() => null)]);
    if (port === null) throw new Error(`the server did not start: ${place}`);
    await push(sender(fetch, `${ORIGIN}:${port}`));
    // What it does after its last answer, too.
    await Promise.race([exited, new Promise((resolve) => setTimeout(resolve, 100))]);
  } catch (error) {
    // A request fails before the end of its process is reported.
    if (child.exitCode !== null) throw error;
    await Promise.race([exited, new Promise((resolve) => setTimeout(resolve, 5_000))]);
    if (child.signalCode !== "SIGKILL") throw error;
  }
  if (child.signalCode === "SIGKILL") return place;
  child.kill("SIGKILL");
  await exited;
  return null;
}

describe.each(PUSH_KINDS)("a push by $name", (kind) => {
  test.skipIf(kind.needsS3 && !radosgwAvailable())(
    "whose server dies at any effect has served nothing wrong, is healed by the next push and leaves nothing",
    { timeout: 300_000 },
    async () => {
      await using bench = await withPushBench({ narUploadBytesMax: 64 * 1024 * 1024 });
      const world = await makeWorld(bench, kind);
      const places: string[] = [];
      let next = 1;
      const run = async () => {
        for (let dieAt = next; dieAt < EFFECTS_MAX; dieAt = next) {
          next += kind.effectsEvery;
          const place = await dieOnce(world, dieAt);
          if (place === null) return;
          places.push(place);
        }
      };
      await Promise.all(Array.from({ length: AT_A_TIME }, run));

      expect(places.filter((place) => place.includes("a commit")).length).toBeGreaterThanOrEqual(2);
      expect(places.length).toBeGreaterThanOrEqual(5);
      await expectNoLeak(world);
    },
  );
});

interface World {
  readonly bench: PushBench;
  readonly kind: PushKind;
  readonly cache: TestCache;
  readonly ada: TestPusher;
  readonly told: Omit<DyingServer, "dieAt">;
}

async function makeWorld(bench: PushBench, kind: PushKind): Promise<World> {
  const cache = await bench.makeCache();
  const ada = await bench.pusher({ [cache.id]: "Write" });
  const databaseUrl = bench.database.url;
  if (!kind.needsS3) {
    return { bench, kind, cache, ada, told: { databaseUrl, storage: { folder: bench.blobFolder }, actor: ada.actor } };
  }
  const s3 = await withBucket();
  const blobs = openS3BlobStore(createS3Client(s3), s3);
  const inS3 = { ...bench, deps: { ...bench.deps, blobs }, uploads: { ...bench.uploads, blobs } };
  return { bench: inS3, kind, cache, ada, told: { databaseUrl, storage: { s3 }, actor: ada.actor } };
}

/** One push to a server that dies, one look at what is there then, and one push to a server that lives. */
async function dieOnce({ bench, kind, cache, ada, told }: World, dieAt: number): Promise<string | null> {
  const paths = await kind.make();
  const place = await pushToDyingServer({ ...told, dieAt }, (send) => kind.push(send, cache, paths));
  const served = await servedRightly(bench, cache, paths);
  expect([0, paths.length], `${place}: all of it or nothing`).toContain(served);
  if (place === null) expect(served).toBe(paths.length);
  await kind.push(sender(pushServer(bench.uploads, ada.actor), ORIGIN), cache, paths);
  expect(await servedRightly(bench, cache, paths), `${place}: healed`).toBe(paths.length);
  return place;
}

/** How many of the paths are offered. Each one that is has all its bytes. */
async function servedRightly({ deps }: PushBench, { id }: TestCache, paths: readonly LocalPath[]): Promise<number> {
  const rows = await listPathsWithNar(deps.db, { cacheIds: [id], hashes: paths.map(({ hash }) => hash) });
  for (const row of rows) {
    const body = await openNar(deps, narOf(row));
    expect(body).not.toBeNull();
    await drain(body as NonNullable<typeof body>);
  }
  return rows.length;
}

async function expectNoLeak({ bench, cache, told }: World): Promise<void> {
  const { db } = bench.deps;
  const { signal } = new AbortController();
  const retention = { unusedMs: 0, keepEvaluations: 5, orphanBuildMs: 0, uploadGraceMs: -1_000, silentHostMs: 0 };
  const deps = { ...bench.deps, retention };
  await db
    .updateTable("nar_upload")
    .set({ last_used_at: new Date(0) })
    .execute();
  await tidyUploads(deps, { unfinishedMs: 1_000, sentKeptMs: -1_000 });
  await sweep(deps, signal);
  await sweepOrphanObjects(deps, signal, { force: true });
  await deleteDiscardedObjects(deps, { restMs: -1_000 });
  // As a server does when it starts.
  if ("folder" in told.storage) await openDiskBlobStore(told.storage.folder);

  const [nars, paths] = await Promise.all([
    db.selectFrom("nar").select("object_key").execute(),
    db.selectFrom("cache_path").select("hash").where("cache_id", "=", cache.id).execute(),
  ]);
  expect(nars).toHaveLength(paths.length);
  const objects = (await bench.deps.blobs.list("")).objects.map(({ key }) => key);
  expect(objects.sort()).toEqual(nars.map((nar) => nar.object_key).sort());
  if ("folder" in told.storage) expect(await bench.objectFiles()).toHaveLength(nars.length);
  for (const table of ["sent_nar", "nar_upload", "nar_upload_part", "discarded_object"] as const) {
    expect(await db.selectFrom(table).selectAll().execute(), table).toEqual([]);
  }
}
