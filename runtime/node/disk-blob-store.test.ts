import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { streamOf } from "#core/lib/streams.ts";
import { PAGE_OBJECTS, testBlobStore } from "#test/conformance/blob-store.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { objectPath, openDiskBlobStore } from "./disk-blob-store.ts";

describe("disk", () => {
  testBlobStore(async () => {
    const folder = await withTemporaryFolder();
    const store = await openDiskBlobStore(folder.path, { pageObjects: PAGE_OBJECTS });
    return { store, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
  });
});

test("what lies in the folder and is no object is not listed", async () => {
  await using folder = await withTemporaryFolder();
  const store = await openDiskBlobStore(folder.path);
  await store.put("nar/abc/1", streamOf(Uint8Array.of(1)));
  await writeFile(join(folder.path, "storage-id"), "a name");
  await writeFile(join(folder.path, "nar", "ab", "a file"), "of somebody else's");
  await mkdir(join(folder.path, "nar", "ab", "abc@folder"));
  await writeFile(join(folder.path, "nar", "ab", ".hidden@1"), "");

  expect((await store.list("")).objects.map(({ key }) => key)).toEqual(["nar/abc/1"]);
});

test("different keys are different files", () => {
  expect(objectPath("nar/0abc/u-1")).toBe("nar/0a/0abc@u-1");
  expect(objectPath("log/0abc")).toBe("log/0a/0abc");
  expect(objectPath("nar/0abc/u/1")).not.toBe(objectPath("nar/0abc/u-1"));
});

test("a process that is killed while it stores leaves no object, and the next start clears up", async () => {
  await using folder = await withTemporaryFolder();
  const child = fork(join(import.meta.dirname, "../../test/runtime/blob-writer.ts"), [folder.path], {
    stdio: "ignore",
  });
  await once(child, "message");
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(await readdir(join(folder.path, ".unfinished"))).toHaveLength(1);

  const store = await openDiskBlobStore(folder.path);

  expect(await store.head("nar/abc/1")).toBeNull();
  expect(await readdir(join(folder.path, ".unfinished"))).toEqual([]);
});

test("a full disk is told as such and leaves nothing behind", async () => {
  await using folder = await withTemporaryFolder();
  const store = await openDiskBlobStore(folder.path);
  async function* tooMuch() {
    yield new Uint8Array(1_000);
    throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  }

  await expect(store.put("nar/abc/1", tooMuch())).rejects.toMatchObject({ code: "service_unavailable" });

  expect(await readdir(join(folder.path, ".unfinished"))).toEqual([]);
});

test("no reader leaves a file open", async () => {
  await using folder = await withTemporaryFolder();
  const store = await openDiskBlobStore(folder.path);
  await store.put("nar/abc/1", streamOf(new Uint8Array(600_000)));

  for await (const _ of (await store.get("nar/abc/1"))?.body ?? []);
  for await (const _ of (await store.get("nar/abc/1"))?.body ?? []) break;
  await (await store.get("nar/abc/1"))?.body[Symbol.asyncIterator]().return?.();
  await (await store.get("nar/abc/1"))?.discard();

  const open = await Promise.all(
    (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")),
  );
  expect(open.filter((path) => path.startsWith(folder.path))).toEqual([]);
});

test("an object that was cut short on disk is an error, not a short body", async () => {
  await using folder = await withTemporaryFolder();
  const store = await openDiskBlobStore(folder.path);
  await store.put("nar/abc/1", streamOf(new Uint8Array(600_000)));
  const blob = await store.get("nar/abc/1");
  await mkdir(folder.path, { recursive: true });
  await writeFile(join(folder.path, objectPath("nar/abc/1")), new Uint8Array(10));

  const reading = async () => {
    for await (const _ of blob?.body ?? []);
  };

  await expect(reading()).rejects.toThrow("ended 599990 bytes early");
});
