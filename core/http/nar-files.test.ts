import { expect, test, vi } from "vitest";
import type { Blob } from "../ports/blob-store.ts";
import type { Nar } from "../services/nar.ts";
import { NarFiles, type NarFilesDeps } from "./nar-files.ts";

const HASH = { algorithm: "sha256", digest: new Uint8Array(32) } as const;
const MIB = 1024 * 1024;

function narAt(objectKey: string, fileSize: number = MIB): Nar {
  return { narHash: HASH, narSize: 9, fileHash: HASH, fileSize, compression: "zstd", objectKey };
}

/** In a storage that answers when it is told to. */
function withFiles() {
  const asked: (PromiseWithResolvers<Blob> & { readonly key: string })[] = [];
  const blobs = {
    get(key: string) {
      const answer = { ...Promise.withResolvers<Blob>(), key };
      asked.push(answer);
      return answer.promise;
    },
  };
  const due: (() => void)[] = [];
  const schedule = (_ms: number, action: () => void) => {
    due.push(action);
    return () => void due.splice(due.indexOf(action), 1);
  };
  const clock = { now: () => 0, monotonic: () => 0, schedule };
  const hasher = { sha256: () => ({ update: () => {}, digest: () => HASH.digest }) };
  // That they were proven a moment ago counts for nothing.
  const stands = vi.fn(() => true);
  const deps = { blobs, clock, hasher, proofs: { stands, proven: () => {} } };
  const files = new NarFiles(deps as unknown as NarFilesDeps);
  return { files, asked, due, stands };
}

/** Of that many bytes, each of them the number of its thousand. */
function blobOf(length: number): Blob & { closed: number } {
  let position = 0;
  const blob = {
    size: length,
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
  const { files, asked, due, stands } = withFiles();
  const crowd = Array.from({ length: 100 }, () => files.read(narAt("nar/a", 300_000)));
  expect(asked).toHaveLength(1);
  const blob = blobOf(300_000);
  asked[0]?.resolve(blob);
  const read = await Promise.all(crowd);
  expect(new Set(read).size).toBe(1);
  expect(read[0]).toEqual(Uint8Array.from({ length: 300_000 }, (_, i) => Math.floor(i / 1_000)));
  expect(blob.closed).toBeGreaterThan(0);
  expect(due).toEqual([]);
  expect(stands).not.toHaveBeenCalled();
  void files.read(narAt("nar/a", 300_000));
  expect(asked).toHaveLength(2);
});

test("what fails fails for all who wait, and is tried again", async () => {
  const { files, asked } = withFiles();
  const both = Promise.allSettled([files.read(narAt("nar/a")), files.read(narAt("nar/a"))]);
  asked[0]?.reject(new Error("the disk is gone"));
  expect((await both).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  const again = files.read(narAt("nar/a"));
  asked[1]?.resolve(blobOf(MIB));
  expect(await again).toHaveLength(MIB);
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
  expect(await more).toHaveLength(MIB);
});

test("a reading that hangs is waited for by nobody for long, and keeps nobody from another", async () => {
  const { files, asked, due } = withFiles();
  const both = [files.read(narAt("nar/a")), files.read(narAt("nar/a"))];
  for (const action of [...due]) action();
  expect(await Promise.all(both)).toEqual([null, null]);
  const another = files.read(narAt("nar/a"));
  expect(asked).toHaveLength(2);
  asked[1]?.resolve(blobOf(MIB));
  expect(await another).toHaveLength(MIB);
  // Late, and of no account for the one that is being read now.
  const third = files.read(narAt("nar/a"));
  asked[0]?.resolve(blobOf(MIB));
  await new Promise((resolve) => setImmediate(resolve));
  const shared = files.read(narAt("nar/a"));
  expect(asked).toHaveLength(3);
  asked[2]?.resolve(blobOf(MIB));
  expect(await third).toBe(await shared);
});
