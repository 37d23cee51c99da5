import { open } from "node:fs/promises";
import { zstdCompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { streamOf } from "#core/lib/streams.ts";
import { parseNarInfo } from "#core/nix/narinfo.ts";
import type { Hasher } from "#core/ports/hasher.ts";
import { openNar } from "#core/services/nar-open.ts";
import { createNarProofs } from "#core/services/nar-proofs.ts";
import { receiveNar } from "#core/services/nar-receive.ts";
import { bodyOf, fileNar, randomContent, storeFile, withCacheBench } from "./support.ts";
import { asking, flipByte, narInfoUrl, narUrl, ORIGIN, withPath } from "./surface-support.ts";

test("a changed byte never gets out whole, and from then on the path is 404 everywhere", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench, randomContent(2_000_000));
  const second = await bench.makeCache();
  await bench.commit([second.id], [path]);
  const [here, elsewhere] = [asking(bench), asking(bench)];
  for (const ask of [here, elsewhere]) {
    for (const where of [cache, second]) expect((await ask(narInfoUrl(where, path))).status).toBe(200);
  }
  const [file] = await bench.objectFiles();
  await flipByte(file as string, 500_000);

  const broken = await here(narUrl(cache, path));
  const received: number[] = [];
  const reader = (broken.body as ReadableStream<Uint8Array>).getReader();
  await expect(
    (async () => {
      for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
        received.push(value?.length ?? 0);
      }
    })(),
  ).rejects.toThrow("damaged");
  expect(received.reduce((a, b) => a + b, 0)).toBeLessThan(path.nar.fileSize);

  for (const where of [cache, second]) {
    expect((await here(narInfoUrl(where, path))).status).toBe(404);
    expect((await here(narUrl(where, path))).status).toBe(404);
  }
  await new Promise((resolve) => setImmediate(resolve));
  expect((await elsewhere(narInfoUrl(second, path))).status).toBe(404);
  expect(bench.logged).toEqual(["a stored NAR is damaged and was taken out of service"]);
});

test("a file that was proven is sent as it is until somebody writes to it", async () => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench, randomContent(2_000_000));
  let hashed = 0;
  const sha256: Hasher["sha256"] = (options) => {
    hashed++;
    return bench.deps.hasher.sha256(options);
  };
  const hasher = { ...bench.deps.hasher, sha256 };
  const ask = asking(bench, { hasher, proofs: createNarProofs(bench.deps) });
  const load = async () => await bodyOf(await ask(narUrl(cache, path)));
  const whole = await load();

  // As long as the file is young each answer proves it anew.
  await expect
    .poll(async () => {
      const before = hashed;
      expect(await load()).toEqual(whole);
      return hashed - before;
    })
    .toBe(0);

  await flipByte((await bench.objectFiles())[0] as string, 500_000);
  await expect(load()).rejects.toThrow("damaged");
  expect((await ask(narUrl(cache, path))).status).toBe(404);
});

test.each([1_000, 700_000])("a file of %i bytes, with a changed one, is 404 at once", async (bytes) => {
  await using bench = await withCacheBench();
  const { cache, path } = await withPath(bench, randomContent(bytes));
  const [file] = await bench.objectFiles();
  await flipByte(file as string, 200);
  expect((await asking(bench)(narUrl(cache, path))).status).toBe(404);
});

test.each(["GET", "HEAD", "range"])("an object that is too short or gone is 404 at once (%s)", async (kind) => {
  await using bench = await withCacheBench();
  const ask = asking(bench);
  const init = kind === "range" ? { headers: { range: "bytes=100-" } } : { method: kind };
  for (const harm of ["truncate", "delete"]) {
    const { cache, path } = await withPath(bench);
    expect((await ask(narInfoUrl(cache, path))).status).toBe(200);
    if (harm === "delete") await bench.deps.blobs.delete(path.nar.objectKey);
    else {
      await using handle = await open((await bench.objectFiles())[0] as string, "r+");
      await handle.truncate(path.nar.fileSize - 1);
    }
    expect((await ask(narUrl(cache, path), init)).status).toBe(404);
    expect((await ask(narInfoUrl(cache, path))).status).toBe(404);
  }
});

test("a NAR that was stored anew is served again, under its old name too", async () => {
  await using bench = await withCacheBench();
  const content = randomContent(500_000);
  const { cache, path } = await withPath(bench, content);
  const ask = asking(bench);
  await bench.deps.blobs.delete(path.nar.objectKey);
  expect((await ask(narUrl(cache, path))).status).toBe(404);
  const nar = await fileNar(content);
  const body = streamOf(new Uint8Array(zstdCompressSync(nar)));
  await receiveNar(bench.deps, { narHash: path.narHash, narSize: nar.length, compression: "zstd", body });

  const info = parseNarInfo(await (await ask(narInfoUrl(cache, path))).text());
  const newUrl = `${ORIGIN}/cache/${cache.name}/${info.url}`;
  expect(newUrl).not.toBe(narUrl(cache, path));
  // The rest of what was begun under the old name would not fit to its beginning.
  const byOldName = await ask(narUrl(cache, path), { headers: { range: "bytes=5-" } });
  const byNewName = await ask(newUrl);
  expect([byOldName.status, byNewName.status]).toEqual([200, 200]);
  expect(byOldName.headers.get("cache-control")).toBe("public, max-age=1");
  expect(Buffer.compare(await bodyOf(byOldName), await bodyOf(byNewName))).toBe(0);
});

test("a slow reader of a replaced object cannot take the new one out of service", async () => {
  await using bench = await withCacheBench();
  const content = randomContent(1_000);
  const { cache, path } = await withPath(bench, content);
  await bench.deps.db.updateTable("nar").set({ damaged_at: new Date() }).execute();
  await storeFile(bench, "path", { content });

  expect(await openNar(bench.deps, path.nar)).toBeNull();
  expect((await asking(bench)(narInfoUrl(cache, path))).status).toBe(200);
  expect(bench.logged).toEqual([]);
});
