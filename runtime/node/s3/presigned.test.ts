import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect, streamOf } from "#core/lib/streams.ts";
import type { BlobStore, PresignedAccess } from "#core/ports/blob-store.ts";
import { presignS3 } from "#core/services/s3-presign.ts";
import { radosgwAvailable, withBucket } from "#test/support/radosgw.ts";
import { openS3BlobStore } from "./blob-store.ts";
import { createS3Client } from "./client.ts";
import { bucketUrl, type S3Settings } from "./settings.ts";

const MINUTE = 60_000;
const data = crypto.getRandomValues(new Uint8Array(50_000));

describe.skipIf(!radosgwAvailable())("URLs that are a right", () => {
  let settings: S3Settings;
  let store: BlobStore;
  let presigned: PresignedAccess;
  const client = Promise.withResolvers<ReturnType<typeof createS3Client>>();

  beforeAll(async () => {
    settings = { ...(await withBucket()), prefix: "of/ours/" };
    client.resolve(createS3Client(settings));
    store = openS3BlobStore(await client.promise, settings, { copyPartBytes: 5 * 1024 ** 2 });
    if (!store.presigned) throw new Error("S3 gives out URLs");
    presigned = store.presigned;
    await store.put("nar/abc/1", streamOf(data));
    await store.put("nar/abc/2", streamOf(Uint8Array.of(2)));
  });
  afterAll(async () => (await client.promise).destroy());

  test("one for reading answers the object, in ranges too, and nothing else", async () => {
    const url = await presigned.readUrl("nar/abc/1", MINUTE);

    expect(new Uint8Array(await (await fetch(url)).arrayBuffer())).toEqual(data);
    const part = await fetch(url, { headers: { range: "bytes=10-19" } });
    expect(part.status).toBe(206);
    expect(new Uint8Array(await part.arrayBuffer())).toEqual(data.slice(10, 20));
    expect((await fetch(url.replace("nar/abc/1", "nar/abc/2"))).status).toBe(403);
    expect((await fetch(url, { method: "PUT", body: "others" })).status).toBe(403);
    expect((await fetch(url, { method: "DELETE" })).status).toBe(403);
    expect((await fetch(url.replace(/X-Amz-Expires=\d+/, "X-Amz-Expires=600000"))).status).toBe(403);
  });

  test("one that has ended, or that was signed with another secret, opens nothing", async () => {
    const request = { method: "GET", url: `${bucketUrl(settings)}/of/ours/nar/abc/1`, lifetimeMs: MINUTE } as const;
    const credentials = settings.credentials as NonNullable<S3Settings["credentials"]>;
    const now = new Date();
    const earlier = new Date(now.getTime() - 2 * MINUTE);
    const sign = (secretAccessKey: string, at: Date) =>
      presignS3({ ...credentials, secretAccessKey }, { region: settings.region, now: at }, request);

    expect((await fetch(await sign(credentials.secretAccessKey, now))).status).toBe(200);
    expect((await fetch(await sign(credentials.secretAccessKey, earlier))).status).toBe(403);
    expect((await fetch(await sign("a secret of somebody else", now))).status).toBe(403);
  });

  test("one for writing takes exactly so many bytes under its key", async () => {
    const url = await presigned.writeUrl("staging/abc/1", data.length, MINUTE);

    expect((await fetch(url, { method: "PUT", body: data.slice(1) })).status).toBe(403);
    expect((await fetch(url.replace("staging", "nar"), { method: "PUT", body: data })).status).toBe(403);
    expect(await store.head("staging/abc/1")).toBeNull();
    expect((await fetch(url, { method: "PUT", body: data })).status).toBe(200);
    expect(await store.head("staging/abc/1")).toEqual({ size: data.length });
  });

  test("what was proven is what is copied: bytes that came later are not", async () => {
    const url = await presigned.writeUrl("staging/abc/2", data.length, MINUTE);
    await fetch(url, { method: "PUT", body: data });
    const proven = await store.get("staging/abc/2");
    await proven?.discard();

    await fetch(url, { method: "PUT", body: data.toReversed() });

    expect(await store.copy("staging/abc/2", "nar/abc/3", proven?.version)).toBeNull();
    expect(await store.head("nar/abc/3")).toBeNull();
    const now = await store.get("staging/abc/2");
    await now?.discard();
    expect(await store.copy("staging/abc/2", "nar/abc/3", now?.version)).toEqual({ size: data.length });
  });

  test("an upload in parts is there when it is finished, and once", async () => {
    const part = crypto.getRandomValues(new Uint8Array(65_536));
    const first = Buffer.concat(Array.from({ length: 90 }, () => part));
    const upload = await presigned.beginParts("staging/abc/3");
    const send = async (number: number, body: Uint8Array<ArrayBuffer>) => {
      const url = await presigned.partUrl("staging/abc/3", { upload, number, size: body.length }, MINUTE);
      expect((await fetch(url, { method: "PUT", body: body.slice(1) })).status).toBe(403);
      const { headers } = await fetch(url, { method: "PUT", body });
      return { number, etag: headers.get("etag") ?? "" };
    };
    const parts = [await send(1, first), await send(2, data)];
    expect(await store.head("staging/abc/3")).toBeNull();

    expect(await presigned.finishParts("staging/abc/3", upload, [{ number: 1, etag: '"of nothing"' }])).toBe(false);
    expect(await presigned.finishParts("staging/abc/3", upload, parts)).toBe(true);

    const blob = await store.get("staging/abc/3");
    expect(Buffer.compare(await collect(blob?.body ?? streamOf(), 2 ** 26), Buffer.concat([first, data]))).toBe(0);
    await presigned.dropParts("staging/abc/3", upload);
    // Larger than one request copies.
    expect(await store.copy("staging/abc/3", "nar/abc/4", blob?.version)).toEqual({ size: first.length + data.length });
    const copy = await store.get("nar/abc/4");
    expect(Buffer.compare(await collect(copy?.body ?? streamOf(), 2 ** 26), Buffer.concat([first, data]))).toBe(0);
  });

  test("what was begun and never finished is dropped when it is old, and only below its prefix", async () => {
    const upload = await presigned.beginParts("staging/abc/4");
    await presigned.beginParts("nar/abc/5");
    const inAMinute = new Date(Date.now() + MINUTE);

    expect(await presigned.dropAbandonedParts("staging/", new Date(Date.now() - MINUTE))).toBe(0);
    expect(await presigned.dropAbandonedParts("staging/", inAMinute)).toBe(1);

    const url = await presigned.partUrl("staging/abc/4", { upload, number: 1, size: data.length }, MINUTE);
    expect((await fetch(url, { method: "PUT", body: data })).status).toBe(404);
    expect(await presigned.dropAbandonedParts("", inAMinute)).toBe(1);
    await presigned.dropParts("staging/abc/4", upload);
  });
});

test("a bucket's address is in the path, or in the host's name where that is wanted", () => {
  const settings = { bucket: "nars", region: "eu-west-1", credentials: null, prefix: "" };
  const at = (endpoint: string | null, virtualHosted: boolean) => bucketUrl({ ...settings, endpoint, virtualHosted });

  expect(at("http://127.0.0.1:9000", false)).toBe("http://127.0.0.1:9000/nars");
  expect(at("https://s3.example.com/", true)).toBe("https://nars.s3.example.com");
  expect(at(null, true)).toBe("https://nars.s3.eu-west-1.amazonaws.com");
  expect(at(null, false)).toBe("https://s3.eu-west-1.amazonaws.com/nars");
});
