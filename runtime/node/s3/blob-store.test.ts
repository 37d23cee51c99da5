import { describe } from "vitest";
import { PAGE_OBJECTS, testBlobStore } from "#test/conformance/blob-store.ts";
import { radosgwAvailable, withBucket } from "#test/support/radosgw.ts";
import { openS3BlobStore } from "./blob-store.ts";
import { createS3Client } from "./client.ts";

const available = radosgwAvailable();

describe.skipIf(!available)("S3", () => {
  testBlobStore(async () => {
    const settings = await withBucket();
    const client = createS3Client(settings);
    const store = openS3BlobStore(client, settings, { pageObjects: PAGE_OBJECTS });
    return { store, [Symbol.asyncDispose]: async () => client.destroy() };
  });
});
