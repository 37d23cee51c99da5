import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect, streamOf } from "#core/lib/streams.ts";
import { type Workerd, withWorkerd } from "#test/cloudflare/workerd.ts";
import { PAGE_OBJECTS, testBlobStore } from "#test/conformance/blob-store.ts";
import type { R2Bucket } from "./bindings.ts";
import { openR2BlobStore } from "./r2-blob-store.ts";

const MIB = 1024 ** 2;

const NOTHING = "export default { fetch: () => new Response() }";

let runtime: Workerd;
let bucket: R2Bucket;
let stores = 0;

beforeAll(async () => {
  runtime = await withWorkerd({ worker: NOTHING });
  bucket = runtime.bucket;
});
afterAll(() => runtime?.[Symbol.asyncDispose]());

/** Each below a prefix of its own, beside the objects of all others. */
function openStore(partBytes?: number) {
  const prefix = `store-${++stores}/`;
  return openR2BlobStore(bucket, { prefix, pageObjects: PAGE_OBJECTS, ...(partBytes && { partBytes }) });
}

describe("R2", () => {
  testBlobStore(async () => ({ store: openStore(), [Symbol.asyncDispose]: async () => {} }));

  test("what is larger than a part is put in parts, and comes back as one", async () => {
    const store = openStore(5 * MIB);
    const pieces = Array.from({ length: 11 }, (_, index) => new Uint8Array(MIB + 1).fill(index));

    expect(await store.put("nar/abc/1", streamOf(...pieces))).toEqual({ size: 11 * MIB + 11 });

    const blob = await store.get("nar/abc/1", { start: 5 * MIB, length: 10 });
    expect(blob?.size).toBe(11 * MIB + 11);
    expect(await collect(blob?.body ?? streamOf(), 10)).toEqual(new Uint8Array([4, 4, 4, 4, 4, 5, 5, 5, 5, 5]));
    await expect(store.put("nar/abc/1", streamOf(...pieces))).rejects.toMatchObject({ code: "already_exists" });
  });

  test("a body in parts that fails leaves nothing", async () => {
    const store = openStore(5 * MIB);
    async function* failing() {
      yield new Uint8Array(6 * MIB);
      throw new Error("the hash was wrong");
    }

    await expect(store.put("nar/abc/1", failing())).rejects.toThrow("the hash was wrong");

    expect(await store.list("")).toEqual({ objects: [], next: null });
  });

  test("a copy is made of the version that was seen, or not at all", async () => {
    const store = openStore();
    await store.put("nar/abc/1", streamOf(Uint8Array.of(1)));
    const seen = await store.get("nar/abc/1");
    await seen?.discard();

    expect(await store.copy("nar/abc/1", "nar/abc/2", "0123456789abcdef")).toBeNull();
    expect(await store.copy("nar/abc/1", "nar/abc/2", seen?.version)).toEqual({ size: 1 });
  });

  test("what others keep in the bucket is not listed", async () => {
    const store = openStore();
    await bucket.put(`store-${stores}/.hidden`, Uint8Array.of(1));
    await store.put("nar/abc/1", streamOf());

    expect((await store.list("")).objects.map(({ key }) => key)).toEqual(["nar/abc/1"]);
  });

  test("an object that ends before its size is an error and no short object", async () => {
    const object = { key: "nar/abc/1", size: 10, etag: "e", uploaded: new Date() };
    const body = new Response(new Uint8Array(5)).body as ReadableStream<Uint8Array>;
    const broken = { get: async () => ({ ...object, body }) } as unknown as R2Bucket;

    const blob = await openR2BlobStore(broken, { prefix: "" }).get("nar/abc/1");

    await expect(collect(blob?.body ?? streamOf(), 10)).rejects.toMatchObject({ code: "service_unavailable" });
  });
});
