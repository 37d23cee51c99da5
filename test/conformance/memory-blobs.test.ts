import { describe } from "vitest";
import { memoryBlobs } from "../support/memory-blobs.ts";
import { PAGE_OBJECTS, testBlobStore } from "./blob-store.ts";

describe("memory, for tests", () => {
  testBlobStore(async () => ({
    store: memoryBlobs(new Map(), { pageObjects: PAGE_OBJECTS }),
    [Symbol.asyncDispose]: async () => {},
  }));
});
