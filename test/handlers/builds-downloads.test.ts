import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { lstatSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { streamOf } from "#core/lib/streams.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  insertAttempt,
  insertBuild,
  insertCacheOf,
  insertEntryPoint,
  insertEvaluationRow,
  insertProjectRow,
  linkBuild,
  newId,
} from "../support/rows.ts";
import { storeTree, type Tree } from "../support/stored-tree.ts";
import { withTemporaryFolder } from "../support/temporary-folder.ts";

let api: BuildsApi;
let organizationId: string;
let projectId: string;
let cacheId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  organizationId = api.organizationId;
  projectId = await insertProjectRow(api.db, { organizationId });
  cacheId = await insertCacheOf(api.db, organizationId);
});
afterAll(() => api[Symbol.asyncDispose]());

interface Product {
  readonly path: string;
  readonly subtype?: string;
  readonly size?: number | null;
}

interface Offering {
  readonly link: string;
  readonly build: string;
  readonly evaluation: string;
  readonly base: string;
  readonly objectKey: string;
}

let made = 0;

/** A build whose output holds this tree, and which offers files of it; paths are below the output. */
async function offering(tree: Tree, products: readonly Product[], seen: { outcome?: number } = {}): Promise<Offering> {
  const base = `${String(++made).padStart(32, "0")}-site`;
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const build = await insertBuild(api.db, { organizationId, name: "site", status: 3 });
  await api.db.updateTable("build_output").set({ store_path: base }).where("build_id", "=", build).execute();
  const rows = products.map(({ path, subtype = "other", size = null }, ordinal) => {
    const name = path.slice(path.lastIndexOf("/") + 1) || "site";
    const place = path === "" ? base : `${base}/${path}`;
    return { build_id: build, ordinal, output: "out", type: "file", subtype, name, path: place, size };
  });
  if (rows.length > 0) await api.db.insertInto("build_product").values(rows).execute();
  const objectKey = await storeTree(api.db, api.deps.blobs, { cacheId, path: base, tree });
  return { link: await linkBuild(api.db, evaluation, build, seen), build, evaluation, base, objectKey };
}

/** Another one each time: of one NAR there is one object. */
function site(): Tree {
  const sub = { entries: { "a.iso": "another", "r.html": "<b>", unique: `${made}` } };
  return { entries: { "a.iso": "the image", sub, z: "" } };
}

test("a build lists what it offers in its own order, and its evaluation shows that there is something", async () => {
  const { link, base, evaluation, build } = await offering(site(), [
    { path: "sub/r.html", subtype: "html", size: 3 },
    { path: "sub" },
  ]);
  expect((await api.ask("GET", `/builds/${link}/downloads`, api.viewer)).message).toEqual([
    { file_type: "file", subtype: "html", name: "r.html", path: `${base}/sub/r.html`, size: 3 },
    { file_type: "file", subtype: "other", name: "sub", path: `${base}/sub`, size: null },
  ]);
  const { builds } = (await api.ask("GET", `/evals/${evaluation}/builds`)).message;
  expect(builds).toMatchObject([{ id: link, has_artefacts: true }]);

  await insertEntryPoint(api.db, evaluation, build, ["packages", "x86_64-linux", "site"]);
  const plain = await insertBuild(api.db, { organizationId, name: "plain", status: 3 });
  await insertEntryPoint(api.db, evaluation, plain, ["packages", "x86_64-linux", "plain"]);
  await linkBuild(api.db, evaluation, plain);
  const { message } = await api.ask("GET", `/evals/${evaluation}/artefacts`, api.viewer);
  expect(message).toMatchObject({ evaluation, entry_points: [{ attr: "packages.x86_64-linux.site", build_id: link }] });
  expect(message.entry_points[0].outputs).toEqual([
    {
      name: "out",
      store_path: base,
      products: [
        { id: `${link}-0`, type: "file", subtype: "html", name: "r.html", path: `${base}/sub/r.html`, size: 3 },
        { id: `${link}-1`, type: "file", subtype: "other", name: "sub", path: `${base}/sub`, size: null },
      ],
    },
  ]);
  expect((await api.ask("GET", `/evals/${evaluation}/artefacts`, api.stranger)).status).toBe(404);
});

test("an evaluation that saw the build fail shows nothing of a later success", async () => {
  const { link, evaluation } = await offering(site(), [{ path: "a.iso" }], { outcome: 4 });
  expect((await api.ask("GET", `/builds/${link}/downloads`)).message).toEqual([]);
  expect((await api.fetch("GET", `/builds/${link}/download/a.iso`)).status).toBe(404);
  expect((await api.ask("GET", `/evals/${evaluation}/builds`)).message.builds[0].has_artefacts).toBe(false);
});

test("a file comes as it is in the output, and no browser runs it", async () => {
  const { link, base } = await offering(site(), [
    { path: "a.iso" },
    { path: "sub/a.iso" },
    { path: "sub/r.html", subtype: "html" },
    { path: "z" },
  ]);
  const answer = await api.fetch("GET", `/builds/${link}/download/a.iso`, api.viewer);
  expect(await answer.text()).toBe("the image");
  expect(Object.fromEntries(answer.headers)).toMatchObject({
    "content-length": "9",
    "content-type": "application/octet-stream",
    "content-disposition": 'attachment; filename="a.iso"',
    "content-security-policy": "sandbox",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
  });
  // Of two with one name the whole path tells them apart.
  expect(await (await api.fetch("GET", `/builds/${link}/download/${base}/sub/a.iso`)).text()).toBe("another");
  const report = await api.fetch("GET", `/builds/${link}/download/r.html`);
  expect(await report.text()).toBe("<b>");
  expect(report.headers.get("content-disposition")).toBe('inline; filename="r.html"');
  expect(report.headers.get("content-type")).toBe("text/html; charset=utf-8");
  expect(report.headers.get("content-security-policy")).toBe("sandbox");
  const empty = await api.fetch("GET", `/builds/${link}/download/z`);
  expect([empty.headers.get("content-length"), await empty.text()]).toEqual(["0", ""]);
  const head = await api.fetch("HEAD", `/builds/${link}/download/a.iso`);
  expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([200, "9", ""]);
  for (const name of ["nothing", "sub", "..%2Fa.iso", "%2e%2e", `${base}%2F..%2Fa.iso`, "a.iso%00"]) {
    expect((await api.fetch("GET", `/builds/${link}/download/${name}`)).status, name).toBe(404);
  }
});

test("a file's name cannot break out of its header", async () => {
  const name = 'a"; filename=evil.exe\\ ü\u202e%.txt';
  const { link } = await offering({ entries: { [name]: "text" } }, [{ path: name }]);
  const answer = await api.fetch("GET", `/builds/${link}/download/${encodeURIComponent(name)}`);
  expect(await answer.text()).toBe("text");
  const encoded = encodeURIComponent(name);
  expect(answer.headers.get("content-disposition")).toBe(
    `attachment; filename="a__ filename=evil.exe_ ___.txt"; filename*=UTF-8''${encoded}`,
  );
});

test("a folder comes as a tar file that tar reads: names of any length, links, executables", async () => {
  const long = "n".repeat(180);
  const tree: Tree = {
    entries: {
      doc: {
        entries: {
          "run.sh": "#!/bin/sh\n",
          "ümläut €": "text",
          empty: { entries: {} },
          link: { link: `../${long}` },
          [long]: { entries: { [long]: "x".repeat(5_000) } },
        },
      },
      other: "not in it",
    },
  };
  const { link } = await offering(tree, [{ path: "doc" }]);
  const answer = await api.fetch("GET", `/builds/${link}/download/doc`);
  expect(Object.fromEntries(answer.headers)).toMatchObject({
    "content-type": "application/zstd",
    "content-disposition": 'attachment; filename="doc.tar.zst"',
  });
  await using folder = await withTemporaryFolder();
  const at = (...names: string[]) => join(folder.path, ...names);
  writeFileSync(at("doc.tar"), zstdDecompressSync(await answer.bytes()));
  execFileSync("tar", ["-xf", at("doc.tar"), "-C", folder.path]);
  const listed = execFileSync("tar", ["--quoting-style=literal", "-tf", at("doc.tar")], { encoding: "utf8" });
  const names = ["empty/", "link", `${long}/`, `${long}/${long}`, "run.sh", "ümläut €"];
  expect(listed.trimEnd().split("\n")).toEqual(["doc/", ...names.map((name) => `doc/${name}`)]);
  expect(readFileSync(at("doc", long, long), "utf8")).toBe("x".repeat(5_000));
  expect(readlinkSync(at("doc", "link"))).toBe(`../${long}`);
  expect(lstatSync(at("doc", "run.sh")).mode & 0o111).toBe(0o111);
  expect(lstatSync(at("doc", "ümläut €")).mode & 0o111).toBe(0);
  expect(lstatSync(at("doc", "empty")).isDirectory()).toBe(true);
});

test("an output that is one file is offered as a whole", async () => {
  const { link } = await offering("all of it", [{ path: "" }]);
  expect(await (await api.fetch("GET", `/builds/${link}/download/site`)).text()).toBe("all of it");
});

test("downloads are refused like the build itself, and a token in the address opens one build's files", async () => {
  const { link, evaluation } = await offering(site(), [{ path: "a.iso" }]);
  const other = await offering(site(), [{ path: "a.iso" }]);
  const path = `/builds/${link}/download/a.iso`;
  for (const user of [api.stranger, null]) {
    for (const rest of ["/downloads", "/download/a.iso"]) {
      const hidden = await api.ask("GET", `/builds/${link}${rest}`, user);
      const missing = await api.ask("GET", `/builds/${newId()}${rest}`, user);
      expect([hidden.status, hidden.text], rest).toEqual([404, missing.text]);
    }
  }
  expect((await api.ask("GET", `/builds/${link}/download-token`, null)).status).toBe(401);
  expect((await api.ask("GET", `/builds/${link}/download-token`, api.stranger)).status).toBe(404);

  const token: string = (await api.ask("GET", `/builds/${link}/download-token`, api.viewer)).message;
  const withToken = (address: string, given: string) => api.fetch("GET", `${address}?token=${given}`, null);
  expect(await (await withToken(path, token)).text()).toBe("the image");
  expect(await (await withToken(path, api.viewer.token)).text()).toBe("the image");
  expect((await withToken(path, api.stranger.token)).status).toBe(404);
  for (const given of ["", "x", `${token}x`, `${token.slice(0, -3)}AAA`, "GRADnothing"]) {
    expect((await withToken(path, given)).status, given).toBe(401);
  }
  expect((await withToken(`/builds/${other.link}/download/a.iso`, token)).status).toBe(401);
  expect((await withToken(`/builds/${newId()}/download/a.iso`, token)).status).toBe(401);
  const sibling = await linkBuild(api.db, evaluation, other.build);
  expect((await withToken(`/builds/${sibling}/download/a.iso`, token)).status).toBe(401);
  // It opens files, and nothing else: neither as a token of the API nor at another address.
  expect((await api.fetch("GET", "/user", { ...api.viewer, token })).status).toBe(401);
  expect((await withToken(`/builds/${link}/downloads`, token)).status).toBe(404);

  await api.db.deleteFrom("organization_member").where("user_id", "=", api.viewer.id).execute();
  expect((await withToken(path, token)).status).toBe(404);
});

test("a file whose bytes are no longer what was built is not given out to its end", async () => {
  const noise = randomBytes(3_000_000);
  const large = await offering({ entries: { "a.bin": noise, "b.txt": "behind it" } }, [{ path: "a.bin" }]);
  await damage(large.objectKey, -20);
  const answer = await api.fetch("GET", `/builds/${large.link}/download/a.bin`);
  await expect(answer.arrayBuffer()).rejects.toThrow();
  expect((await api.ask("GET", `/builds/${large.link}/download/a.bin`)).status).toBe(404);

  const small = await offering(site(), [{ path: "a.iso" }]);
  await damage(small.objectKey, -3);
  const found = await api.ask("GET", `/builds/${small.link}/download/a.iso`);
  expect([found.status, found.code]).toEqual([404, "not_found"]);
  expect(found.message).toMatch(/restart the build/);
});

/** Changes one bit of a stored object. */
async function damage(key: string, at: number): Promise<void> {
  const { blobs } = api.deps;
  const parts: Uint8Array[] = [];
  for await (const part of (await blobs.get(key))?.body ?? []) parts.push(part);
  const bytes = Buffer.concat(parts);
  const place = bytes.length + at;
  bytes[place] = (bytes[place] ?? 0) ^ 1;
  await blobs.delete(key);
  await blobs.put(key, streamOf(bytes));
}

test("clients that go away give their places back, and meanwhile there are some for others", async () => {
  const noise = randomBytes(2_000_000);
  const { link } = await offering({ entries: { "a.bin": noise } }, [{ path: "a.bin" }]);
  const token = (await api.ask("GET", `/builds/${link}/download-token`)).message;
  const path = `/builds/${link}/download/a.bin?token=${token}`;
  const get = (address: string) => api.fetch("GET", path, null, { headers: { "x-test-peer": address } });
  const open = await Promise.all(Array.from({ length: 8 }, () => get("192.0.2.1")));
  expect(open.map(({ status }) => status)).toEqual(Array(8).fill(200));
  expect((await get("192.0.2.1")).status).toBe(429);
  expect((await (await get("192.0.2.2")).bytes()).length).toBe(noise.length);
  for (const { body } of open) await body?.cancel();
  expect((await (await get("192.0.2.1")).bytes()).length).toBe(noise.length);
});

test("a file of any size takes the same memory to send, and a folder too", async () => {
  const tree: Tree = { entries: { iso: { entries: { "a.iso": randomBytes(48_000_000) } } } };
  const { link } = await offering(tree, [{ path: "iso/a.iso" }, { path: "iso" }]);
  for (const name of ["a.iso", "iso"]) {
    const response = await api.fetch("GET", `/builds/${link}/download/${name}`);
    const before = heldBytes();
    let length = 0;
    let peak = 0;
    let nextLook = 0;
    for await (const bytes of response.body as ReadableStream<Uint8Array>) {
      length += bytes.length;
      if (length < nextLook) continue;
      nextLook += 8_000_000;
      peak = Math.max(peak, heldBytes() - before);
    }
    expect(length).toBeGreaterThan(47_000_000);
    expect(peak, name).toBeLessThan(16 * 1024 * 1024);
  }
});

/** What this process cannot let go of. */
function heldBytes(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  // The second run waits for what the first one left to be swept in the background.
  collect();
  collect();
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return heapUsed + external + arrayBuffers;
}

test("a build shows what its attempt took, where its worker measured it", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 3 });
  const link = await linkBuild(api.db, evaluation, build);
  const attempt = await insertAttempt(api.db, { organizationId, buildId: build, ranMs: 9_000 });
  expect((await api.ask("GET", `/builds/${link}`)).message.metrics).toBe(null);
  const metrics = { build_ms: 8_000, cpu_user_ms: 7_000, cpu_system_ms: 500, peak_memory_bytes: 5_000_000_000 };
  await api.db.updateTable("attempt").set(metrics).where("id", "=", attempt).execute();
  expect((await api.ask("GET", `/builds/${link}`)).message.metrics).toEqual({
    ...metrics,
    io_read_bytes: null,
    io_write_bytes: null,
  });
});
