import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeBase32 } from "#core/nix/base32.ts";
import { openS3BlobStore } from "#runtime/node/s3/blob-store.ts";
import { createS3Client } from "#runtime/node/s3/client.ts";
import { type Fault, type FaultyProxy, withFaultyProxy } from "#test/support/faulty-proxy.ts";
import { radosgwAvailable, withBucket } from "#test/support/radosgw.ts";
import { bodyOf, type CacheBench, randomContent, storeFile, type TestCache, withCacheBench } from "./support.ts";

describe.skipIf(!radosgwAvailable())("a cache on S3 that fails", () => {
  let bench: CacheBench;
  let proxy: FaultyProxy;
  let cache: TestCache;
  let ask: (url: string, init?: RequestInit) => Promise<Response>;
  let store: (length: number) => Promise<string>;

  beforeAll(async () => {
    const settings = await withBucket();
    bench = await withCacheBench();
    proxy = await withFaultyProxy(settings.endpoint ?? "");
    const through = { ...settings, endpoint: proxy.url };
    const blobs = openS3BlobStore(createS3Client(through, { answerMsMax: 500 }), through, { stallMs: 200 });
    const surface = bench.surface({ blobs });
    cache = await bench.makeCache();
    ask = async (url, init) => (await surface(new Request(url, init))) as Response;
    store = async (length) => {
      proxy.fault = () => null;
      const path = await storeFile({ deps: { ...bench.deps, blobs } }, "path", { content: randomContent(length) });
      await bench.commit([cache.id], [path]);
      return `https://cache.example.org/cache/${cache.name}/nar/${encodeBase32(path.nar.fileHash.digest)}.nar.zst`;
    };
  });
  afterAll(async () => {
    await proxy?.[Symbol.asyncDispose]();
    await bench?.[Symbol.asyncDispose]();
  });

  const always = (fault: Fault) => {
    proxy.fault = () => fault;
  };

  test("a changed byte of a small file is 404, and from then on the path is gone", async () => {
    const url = await store(10_000);
    always({ flipAt: 5_000 });
    expect((await ask(url)).status).toBe(404);
    proxy.fault = () => null;
    expect((await ask(url)).status).toBe(404);
  });

  test("a changed byte of a large file never comes with its end", async () => {
    const url = await store(2_000_000);
    always({ flipAt: 1_500_000 });
    const response = await ask(url);
    expect(response.status).toBe(200);
    await expect(bodyOf(response)).rejects.toThrow("damaged");
    proxy.fault = () => null;
    expect((await ask(url)).status).toBe(404);
  });

  test.each<[string, Fault]>([
    ["500", { status: 500 }],
    ["nothing", { silent: true }],
    ["headers and no body", { truncateAt: 0 }],
    ["headers and then silence", { stallAt: 0 }],
  ])("an answer of %s is no proof of damage: absent for now, and there again", async (_, fault) => {
    const url = await store(10_000);
    always(fault);
    expect((await ask(url)).status).toBe(404);
    proxy.fault = () => null;
    const response = await ask(url);
    expect(response.status).toBe(200);
    expect((await bodyOf(response)).length).toBe(Number(response.headers.get("content-length")));
  });

  test("what stops again and again, but goes on each time, arrives", async () => {
    const url = await store(10_000);
    always({ stallAt: 4_000 });
    expect((await bodyOf(await ask(url))).length).toBeGreaterThan(10_000);
  });

  test("an object of another size than was stored is 404 at once, for GET and HEAD", async () => {
    const url = await store(300_000);
    always({ lengthen: 1 });
    expect((await ask(url, { method: "HEAD" })).status).toBe(404);
    expect((await ask(url)).status).toBe(404);
  });
});
