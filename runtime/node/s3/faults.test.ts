import { ListMultipartUploadsCommand, S3ServiceException } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { collect, streamOf } from "#core/lib/streams.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { type Fault, type FaultyProxy, withFaultyProxy } from "#test/support/faulty-proxy.ts";
import { radosgwAvailable, withBucket } from "#test/support/radosgw.ts";
import { openS3BlobStore } from "./blob-store.ts";
import { createS3Client } from "./client.ts";
import { storageFailure } from "./errors.ts";
import type { S3Settings } from "./settings.ts";

const PART_BYTES = 5 * 1024 ** 2;
const data = crypto.getRandomValues(new Uint8Array(60_000));
/** Two parts and something. */
const large = Array.from({ length: 200 }, () => data);
const LARGE_BYTES = 12_000_000;

describe.skipIf(!radosgwAvailable())("S3 that fails", () => {
  let settings: S3Settings;
  let proxy: FaultyProxy;
  let store: BlobStore;
  let direct: BlobStore;
  let key = "";
  let keys = 0;

  beforeAll(async () => {
    settings = await withBucket();
    proxy = await withFaultyProxy(settings.endpoint ?? "");
    const through = { ...settings, endpoint: proxy.url };
    const options = { partBytes: PART_BYTES, stallMs: 300 };
    store = openS3BlobStore(createS3Client(through, { answerMsMax: 1_000 }), through, options);
    direct = openS3BlobStore(createS3Client(settings), settings, options);
  });
  beforeEach(() => {
    proxy.fault = () => null;
    proxy.seen.length = 0;
    key = `nar/abc/${++keys}`;
  });
  afterAll(async () => {
    await proxy?.[Symbol.asyncDispose]();
  });

  /** The first `times` requests that match. */
  function failFirst(times: number, pattern: RegExp, fault: Fault): void {
    let left = times;
    proxy.fault = (line) => (pattern.test(line) && left-- > 0 ? fault : null);
  }

  async function uploadsUnderWay(): Promise<number> {
    const client = createS3Client(settings);
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: settings.bucket }));
    client.destroy();
    return Uploads.length;
  }

  async function read(from: BlobStore = store): Promise<Uint8Array | null> {
    const blob = await from.get(key);
    return blob && (await collect(blob.body, 2 ** 26));
  }

  test("what passes by itself is not noticed: two answers of 500", async () => {
    failFirst(2, /^PUT/, { status: 500 });
    await store.put(key, streamOf(data));
    failFirst(2, /^GET/, { status: 503 });
    expect(await read()).toEqual(data);
  });

  test("what does not pass is told, and nothing was stored", async () => {
    failFirst(Number.POSITIVE_INFINITY, /./, { status: 500 });
    const refused = { code: "service_unavailable", message: expect.stringContaining("try again later") };
    await expect(store.put(key, streamOf(data))).rejects.toMatchObject(refused);
    await expect(store.get(key)).rejects.toMatchObject(refused);
    await expect(store.head(key)).rejects.toMatchObject(refused);
    await expect(store.delete(key)).rejects.toMatchObject(refused);
    await expect(store.list("")).rejects.toMatchObject(refused);
    await expect(store.copy(key, "nar/abc/0")).rejects.toMatchObject(refused);
    expect(await direct.head(key)).toBeNull();
  });

  test("a server that says nothing is given up", async () => {
    await direct.put(key, streamOf(data));
    failFirst(Number.POSITIVE_INFINITY, /./, { silent: true });
    await expect(store.get(key)).rejects.toMatchObject({ code: "service_unavailable" });
  }, 15_000);

  test("a body that breaks off, stalls or is shorter than it said goes on where it stopped", async () => {
    await direct.put(key, streamOf(...large));
    const whole = await read(direct);
    for (const fault of [{ truncateAt: 3_000_001 }, { stallAt: 5_000_000 }, { lengthen: 10 }]) {
      failFirst(2, /^GET/, fault);
      const blob = await store.get(key, { start: 100_000, length: LARGE_BYTES - 100_000 });
      const bytes = await collect(blob?.body ?? streamOf(), 2 ** 26);
      expect(Buffer.compare(bytes, whole?.subarray(100_000) ?? data)).toBe(0);
    }
  });

  test("a body that cannot be completed is an error and not a short body", async () => {
    await direct.put(key, streamOf(...large));
    failFirst(Number.POSITIVE_INFINITY, /^GET/, { truncateAt: 1_000 });
    await expect(read()).rejects.toThrow();
  });

  test("an object that was replaced by another while it was read does not become one with it", async () => {
    await direct.put(key, streamOf(...large));
    failFirst(1, /^GET/, { truncateAt: 1_000_000 });
    const blob = await store.get(key);
    await direct.delete(key);
    await direct.put(key, streamOf(...large.slice(0, 100), new Uint8Array(60_000), ...large.slice(101)));
    await expect(collect(blob?.body ?? streamOf(), 2 ** 26)).rejects.toThrow();
  });

  test("an upload of which a part cannot be stored leaves nothing", async () => {
    failFirst(Number.POSITIVE_INFINITY, /partNumber=2/, { status: 500 });
    await expect(store.put(key, streamOf(...large))).rejects.toMatchObject({ code: "service_unavailable" });
    expect(await direct.head(key)).toBeNull();
    expect(await uploadsUnderWay()).toBe(0);
  });

  test("an upload whose body fails leaves nothing, and its source is let go", async () => {
    let isLetGo = false;
    async function* failing() {
      try {
        yield* large;
        throw new Error("the hash was wrong");
      } finally {
        isLetGo = true;
      }
    }
    await expect(store.put(key, failing())).rejects.toThrow("the hash was wrong");
    expect(isLetGo).toBe(true);
    expect(await direct.head(key)).toBeNull();
    expect(await uploadsUnderWay()).toBe(0);
  });

  test("an answer that is lost after the object was stored is no failure", async () => {
    failFirst(1, /^PUT/, { lose: true });
    expect(await store.put(key, streamOf(data))).toEqual({ size: data.length });
    expect(await read()).toEqual(data);

    key = `${key}-large`;
    failFirst(1, /^POST .*uploadId=/, { lose: true });
    expect(await store.put(key, streamOf(...large))).toEqual({ size: LARGE_BYTES });
    expect((await read())?.length).toBe(LARGE_BYTES);
    expect(await uploadsUnderWay()).toBe(0);
  });

  test("a lost answer does not hide that the key was somebody else's", async () => {
    await direct.put(key, streamOf(Uint8Array.of(1)));
    failFirst(1, /^PUT/, { lose: true });
    await expect(store.put(key, streamOf(data))).rejects.toMatchObject({ code: "already_exists" });
    await expect(store.put(key, streamOf(...large))).rejects.toMatchObject({ code: "already_exists" });
    expect(await read()).toEqual(Uint8Array.of(1));
  });

  test("a server without conditional writes replaces nothing either", async () => {
    await direct.put(key, streamOf(Uint8Array.of(1)));
    failFirst(1, /^PUT/, { status: 501 });
    await expect(store.put(key, streamOf(data))).rejects.toMatchObject({ code: "already_exists" });
    await store.put(`${key}-new`, streamOf(data));
    expect(await read()).toEqual(Uint8Array.of(1));
  });
});

test("a bucket that is full is told as such", () => {
  const refused = (name: string, httpStatusCode: number) =>
    storageFailure(new S3ServiceException({ name, $fault: "client", $metadata: { httpStatusCode } })).message;

  expect(refused("QuotaExceeded", 403)).toBe("the server's storage is full: try again later");
  expect(refused("InsufficientStorage", 507)).toBe("the server's storage is full: try again later");
  expect(refused("InternalError", 500)).not.toContain("full");
});
