import { expect, test } from "vitest";
import type { Blob } from "../ports/blob-store.ts";
import type { Nar } from "../services/nar.ts";
import { NarFiles } from "./nar-files.ts";

const HASH = { algorithm: "sha256", digest: new Uint8Array(32) } as const;
const MIB = 1024 * 1024;

function narAt(objectKey: string, fileSize: number = MIB): Nar {
  return { narHash: HASH, narSize: 9, fileHash: HASH, fileSize, compression: "zstd", objectKey };
}

/** Files that were proven a moment ago, in a storage that answers when it is told to. */
function withFiles() {
  const asked: (PromiseWithResolvers<Blob> & { readonly key: string })[] = [];
  const blobs = {
    get(key: string) {
      const answer = { ...Promise.withResolvers<Blob>(), key };
      asked.push(answer);
      return answer.promise;
    },
  };
  const deps = { blobs, proofs: { stands: () => true, proven: () => {} } };
  const files = new NarFiles(deps as unknown as ConstructorParameters<typeof NarFiles>[0]);
  return { files, asked };
}

/** Of that many bytes, each of them the number of its thousand. */
function blobOf(size: number, { length = size } = {}): Blob & { closed: number } {
  let position = 0;
  const blob = {
    size,
    imprint: "as it was",
    closed: 0,
    body: {
      async readInto(block: Uint8Array) {
        const read = Math.min(block.length, length - position);
        for (let i = 0; i < read; i++) block[i] = Math.floor((position + i) / 1_000);
        position += read;
        return read;
      },
      close: async () => void blob.closed++,
      [Symbol.asyncIterator]: () => {
        throw new Error("it is read into memory of the reader's own");
      },
    },
    discard: async () => {},
  };
  return blob;
}

test("a crowd shares one reading, and who comes later has another", async () => {
  const { files, asked } = withFiles();
  const crowd = Array.from({ length: 100 }, () => files.read(narAt("nar/a", 300_000)));
  expect(asked).toHaveLength(1);
  const blob = blobOf(300_000);
  asked[0]?.resolve(blob);
  const read = await Promise.all(crowd);
  expect(new Set(read).size).toBe(1);
  expect(read[0]).toEqual(Uint8Array.from({ length: 300_000 }, (_, i) => Math.floor(i / 1_000)));
  expect(blob.closed).toBe(1);
  void files.read(narAt("nar/a", 300_000));
  expect(asked).toHaveLength(2);
});

test("what fails fails for all who wait, and is tried again; a file that ends early is none", async () => {
  const { files, asked } = withFiles();
  const both = Promise.allSettled([files.read(narAt("nar/a")), files.read(narAt("nar/a"))]);
  asked[0]?.reject(new Error("the disk is gone"));
  expect((await both).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  const short = blobOf(MIB, { length: MIB - 1 });
  const again = files.read(narAt("nar/a"));
  asked[1]?.resolve(short);
  await expect(again).rejects.toThrow(`ended after ${MIB - 1}`);
  expect(short.closed).toBe(1);
});

test("32 MiB are read at a time; what is beyond is left to others until there is room", async () => {
  const { files, asked } = withFiles();
  const reading = Array.from({ length: 32 }, (_, i) => files.read(narAt(`nar/${i}`)));
  expect(await files.read(narAt("nar/more", 1))).toBeNull();
  expect(asked).toHaveLength(32);
  for (const { resolve } of asked.splice(0, 2)) resolve(blobOf(MIB));
  await Promise.all(reading.slice(0, 2));
  const more = files.read(narAt("nar/more"));
  expect(asked.at(-1)?.key).toBe("nar/more");
  asked.at(-1)?.resolve(blobOf(MIB));
  expect((await more)?.length).toBe(MIB);
});
