import { expect, test } from "vitest";
import { collect, streamOf } from "#core/lib/streams.ts";
import type { BlobStore, StoredObject } from "#core/ports/blob-store.ts";

/** Empty, and with pages of `PAGE_OBJECTS`. */
export interface BlobStoreUnderTest extends AsyncDisposable {
  readonly store: BlobStore;
}

export const PAGE_OBJECTS = 3;

const LIMIT = 16 * 1024 * 1024;

type Make = () => Promise<BlobStoreUnderTest>;

/** What every blob store promises. Call it inside a `describe`. */
export function testBlobStore(make: Make): void {
  testObjects(make);
  testInterruptions(make);
  testLists(make);
  testCopies(make);
  testKeys(make);
}

function testObjects(make: Make): void {
  test("an object comes back as it was put, whole and in ranges", async () => {
    await using made = await make();
    const data = crypto.getRandomValues(new Uint8Array(65_000));
    const body = Array.from({ length: 13 }, () => data);

    const { size } = await made.store.put("nar/abc/1", streamOf(...body));

    expect(size).toBe(845_000);
    expect(await made.store.head("nar/abc/1")).toEqual({ size });
    const whole = await made.store.get("nar/abc/1");
    expect(whole?.size).toBe(size);
    expect(await collect((whole as NonNullable<typeof whole>).body, LIMIT)).toEqual(joined(body));
    expect(await read(made.store, "nar/abc/1", { start: 64_998, length: 5 })).toEqual(
      joined(body).slice(64_998, 65_003),
    );
    expect(await read(made.store, "nar/abc/1", { start: size, length: 0 })).toEqual(new Uint8Array());
  });

  test("an empty object is an object", async () => {
    await using made = await make();
    await made.store.put("nar/abc/1", streamOf());

    expect(await made.store.head("nar/abc/1")).toEqual({ size: 0 });
    expect(await read(made.store, "nar/abc/1")).toEqual(new Uint8Array());
  });

  test("what was never put is absent, and deleting it succeeds", async () => {
    await using made = await make();

    expect(await made.store.get("nar/abc/1")).toBeNull();
    expect(await made.store.head("nar/abc/1")).toBeNull();
    await made.store.delete("nar/abc/1");
  });

  test("a deleted object is absent, its neighbour stays", async () => {
    await using made = await make();
    await made.store.put("nar/abc/1", streamOf(Uint8Array.of(1)));
    await made.store.put("nar/abc/2", streamOf(Uint8Array.of(2)));

    await made.store.delete("nar/abc/1");

    expect(await made.store.get("nar/abc/1")).toBeNull();
    expect(await read(made.store, "nar/abc/2")).toEqual(Uint8Array.of(2));
  });

  test("an object is never replaced, also not by one that is put at the same time", async () => {
    await using made = await make();
    await made.store.put("nar/abc/1", streamOf(Uint8Array.of(1)));
    await expect(made.store.put("nar/abc/1", streamOf(Uint8Array.of(2)))).rejects.toMatchObject({
      code: "already_exists",
    });
    expect(await read(made.store, "nar/abc/1")).toEqual(Uint8Array.of(1));

    const both = await Promise.allSettled(
      [3, 4].map((value) => made.store.put("nar/abc/2", streamOf(Uint8Array.of(value)))),
    );
    expect(both.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });
}

function testInterruptions(make: Make): void {
  test("a body that fails leaves nothing, and its error is passed on", async () => {
    await using made = await make();
    async function* failing() {
      yield new Uint8Array(300_000);
      throw new Error("the hash was wrong");
    }

    await expect(made.store.put("nar/abc/1", failing())).rejects.toThrow("the hash was wrong");

    expect(await made.store.get("nar/abc/1")).toBeNull();
    await made.store.put("nar/abc/1", streamOf(Uint8Array.of(1)));
  });

  test("a reader that gives up, or never begins, does no harm", async () => {
    await using made = await make();
    await made.store.put("nar/abc/1", streamOf(new Uint8Array(700_000).fill(7)));

    const first = await made.store.get("nar/abc/1");
    for await (const _ of (first as NonNullable<typeof first>).body) break;
    const second = await made.store.get("nar/abc/1");
    await second?.discard();
    const third = await made.store.get("nar/abc/1");
    await third?.body[Symbol.asyncIterator]().return?.();

    expect((await read(made.store, "nar/abc/1"))?.length).toBe(700_000);
  });
}

function testKeys(make: Make): void {
  test.each([
    "",
    "nar",
    "/nar/a",
    "nar/../a",
    "nar/..",
    "nar/.a",
    "../a/b",
    "nar//a",
    "nar/a/",
    "nar/a b",
    "nar/a\0b",
    "a/b/c/d/e",
  ])("the key %j is refused", async (key) => {
    await using made = await make();
    await expect(made.store.put(key, streamOf())).rejects.toThrow("not a key");
    await expect(made.store.get(key)).rejects.toThrow("not a key");
    await expect(made.store.head(key)).rejects.toThrow("not a key");
    await expect(made.store.delete(key)).rejects.toThrow("not a key");
    await expect(made.store.copy(key, "nar/abc/1")).rejects.toThrow("not a key");
  });

  test.each(["nar", "/", "../", "nar/.", ".unfinished/", "nar//"])("nothing is listed below %j", async (prefix) => {
    await using made = await make();
    await expect(made.store.list(prefix)).rejects.toThrow("not a prefix");
  });
}

function testLists(make: Make): void {
  test("everything that is there is listed once, in the order of the keys, page by page", async () => {
    await using made = await make();
    const keys = [
      "log/zz1",
      "nar/aa-1/1",
      "nar/aa/0",
      "nar/aa/1",
      "nar/aa0/1",
      "nar/b-/1",
      "nar-old/aa/1",
      "staging/aa/1",
    ];
    for (const [index, key] of keys.entries()) await made.store.put(key, streamOf(new Uint8Array(index)));

    const pages = await pagesOf(made.store, "");

    expect(pages.flat().map(({ key }) => key)).toEqual(keys.toSorted());
    expect(Math.max(...pages.map(({ length }) => length))).toBe(PAGE_OBJECTS);
    for (const { key, size } of pages.flat()) expect(size).toBe(keys.indexOf(key));
  });

  test("a prefix ends a name, and what is not below it is not listed", async () => {
    await using made = await make();
    for (const key of ["nar/aa/1", "nar/aa/2", "nar/aab/1", "nar-old/aa/1", "log/aa"]) {
      await made.store.put(key, streamOf());
    }

    const keysBelow = async (prefix: string) => (await pagesOf(made.store, prefix)).flat().map(({ key }) => key);

    expect(await keysBelow("nar/")).toEqual(["nar/aa/1", "nar/aa/2", "nar/aab/1"]);
    expect(await keysBelow("nar/aa/")).toEqual(["nar/aa/1", "nar/aa/2"]);
    expect(await keysBelow("other/")).toEqual([]);
  });

  test("an object that is being put is not listed, and says afterwards when it was stored", async () => {
    await using made = await make();
    const half = Promise.withResolvers<void>();
    const rest = Promise.withResolvers<void>();
    async function* slow() {
      yield new Uint8Array(300_000);
      half.resolve();
      await rest.promise;
    }
    const putting = made.store.put("nar/abc/1", slow());
    await half.promise;

    expect(await made.store.list("")).toEqual({ objects: [], next: null });
    rest.resolve();
    await putting;

    const { objects } = await made.store.list("");
    expect(Math.abs(Date.now() - (objects[0]?.storedAt.getTime() ?? 0))).toBeLessThan(10_000);
  });
}

function testCopies(make: Make): void {
  test("a copy is an object of its own, as young as the copying", async () => {
    await using made = await make();
    const data = crypto.getRandomValues(new Uint8Array(60_000));
    await made.store.put("staging/abc/1", streamOf(data));

    expect(await made.store.copy("staging/abc/1", "nar/abc/1")).toEqual({ size: 60_000 });
    await made.store.delete("staging/abc/1");

    expect(await read(made.store, "nar/abc/1")).toEqual(data);
    expect(await made.store.head("staging/abc/1")).toBeNull();
    const { objects } = await made.store.list("nar/");
    expect(Math.abs(Date.now() - (objects[0]?.storedAt.getTime() ?? 0))).toBeLessThan(10_000);
  });

  test("what is not there is not copied, and a copy replaces nothing", async () => {
    await using made = await make();
    await made.store.put("nar/abc/1", streamOf(Uint8Array.of(1)));
    await made.store.put("nar/abc/2", streamOf(Uint8Array.of(2)));

    expect(await made.store.copy("nar/abd/1", "nar/abc/3")).toBeNull();
    await expect(made.store.copy("nar/abc/1", "nar/abc/2")).rejects.toMatchObject({ code: "already_exists" });

    expect(await read(made.store, "nar/abc/2")).toEqual(Uint8Array.of(2));
    expect(await made.store.head("nar/abc/3")).toBeNull();
  });
}

async function pagesOf(store: BlobStore, prefix: string): Promise<(readonly StoredObject[])[]> {
  const pages: (readonly StoredObject[])[] = [];
  for (let after: string | null | undefined; after !== null; ) {
    const page = await store.list(prefix, after);
    pages.push(page.objects);
    after = page.next;
  }
  return pages;
}

async function read(
  store: BlobStore,
  key: string,
  range?: { start: number; length: number },
): Promise<Uint8Array | null> {
  const blob = await store.get(key, range);
  return blob && (await collect(blob.body, LIMIT));
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}
