import { afterAll, beforeAll, expect, test } from "vitest";
import { utf8 } from "#core/lib/bytes.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { type LogSealDeps, sealEndedLogs } from "#core/services/build-logs-seal.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { quietLogger } from "../support/quiet-logger.ts";
import {
  insertAttempt,
  insertBuild,
  insertEvaluationRow,
  insertProjectRow,
  linkBuild,
  writeLogRows,
} from "../support/rows.ts";

const FRAME_BYTES = 64 * 1024;

let api: BuildsApi;
let organizationId: string;
let projectId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  organizationId = api.organizationId;
  projectId = await insertProjectRow(api.db, { organizationId });
});
afterAll(() => api[Symbol.asyncDispose]());

/** A build whose attempt ended this long ago and wrote this. */
async function endedBuild(text: string, minutesAgo = 10): Promise<{ link: string; attempt: string }> {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 3 });
  const link = await linkBuild(api.db, evaluation, build);
  const attempt = await insertAttempt(api.db, { organizationId, buildId: build });
  const bytes = utf8(text);
  for (let start = 0; start < bytes.length; start += 50_000) {
    await writeLogRows(api.db, attempt, bytes.subarray(start, start + 50_000));
  }
  const finished_at = new Date(Date.now() - minutesAgo * 60_000);
  await api.db.updateTable("attempt").set({ outcome: 1, finished_at }).where("id", "=", attempt).execute();
  return { link, attempt };
}

function sealer(blobs: BlobStore = api.deps.blobs): LogSealDeps {
  return { ...api.deps, blobs, log: quietLogger, logFrameBytes: FRAME_BYTES };
}

async function seal(deps = sealer()): Promise<void> {
  await sealEndedLogs(deps, new AbortController().signal);
}

async function rowsOf(attempt: string): Promise<number> {
  return (await api.db.selectFrom("attempt_log_chunk").select("byte_start").where("attempt_id", "=", attempt).execute())
    .length;
}

async function sealedKey(attempt: string): Promise<string | undefined> {
  const row = await api.db.selectFrom("sealed_log").select("object_key").where("attempt_id", "=", attempt).execute();
  return row[0]?.object_key;
}

async function read(link: string, path: string): Promise<string> {
  const response = await api.fetch("GET", `/builds/${link}/log${path}`);
  expect(response.status).toBe(200);
  return await response.text();
}

const LONG = Array.from({ length: 20_000 }, (_, index) => `line ${index + 1}: ${"ü".repeat(index % 40)}`).join("\n");

test("a sealed log reads as its rows did: whole, by lines, by chunks and searched", async () => {
  const { link, attempt } = await endedBuild(LONG);
  const paths = [
    "",
    "/chunks",
    "/chunk/0",
    "/chunk/1",
    "/lines?range=L9000-L9003",
    "/lines?start=19999",
    "/search?q=line 1999",
  ];
  const before = await Promise.all(paths.map((path) => read(link, path)));
  await seal();
  expect(await rowsOf(attempt)).toBe(0);
  expect(await Promise.all(paths.map((path) => read(link, path)))).toEqual(before);
  expect(before[4]).toMatch(/^line 9000: .*\nline 9001: .*\nline 9002: .*\nline 9003: .*\n$/u);

  const object = await api.deps.blobs.head((await sealedKey(attempt)) as string);
  expect(object?.size).toBeLessThan(utf8(LONG).length / 4);
});

test("a log without a line feed and one of a single byte are sealed as well", async () => {
  const endless = await endedBuild("x".repeat(3 * FRAME_BYTES));
  const tiny = await endedBuild("\n");
  await seal();
  expect(JSON.parse(await read(endless.link, "")).message).toBe("x".repeat(3 * FRAME_BYTES));
  expect(JSON.parse(await read(tiny.link, "")).message).toBe("\n");
  expect(await rowsOf(endless.attempt)).toBe(0);
});

test("a log that ended just now stays in its rows: lines may still come", async () => {
  const { attempt } = await endedBuild("late lines\n", 1);
  await seal();
  expect(await rowsOf(attempt)).toBe(1);
  expect(await sealedKey(attempt)).toBeUndefined();
});

test("nothing is appended to a sealed log", async () => {
  const { attempt } = await endedBuild("all there is\n");
  await seal();
  await expect(writeLogRows(api.db, attempt, utf8("more\n"))).rejects.toThrow("one writer");
});

test("of two servers that seal the same log one wins, and the other's object goes", async () => {
  const { link, attempt } = await endedBuild("seen by two\n");
  const keys: string[] = [];
  const { blobs } = api.deps;
  const noting: BlobStore = {
    ...blobs,
    put: async (key, body) => {
      keys.push(key);
      const stored = await blobs.put(key, body);
      while (keys.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
      return stored;
    },
  };
  await Promise.all([seal(sealer(noting)), seal(sealer(noting))]);
  const kept = await sealedKey(attempt);
  expect(keys).toContain(kept);
  for (const key of keys) expect((await blobs.head(key)) !== null).toBe(key === kept);
  expect(JSON.parse(await read(link, "")).message).toBe("seen by two\n");
});

test("a storage that fails leaves the log in its rows", async () => {
  const { link, attempt } = await endedBuild("still here\n");
  await seal(sealer({ ...api.deps.blobs, put: () => Promise.reject(new Error("the disk is full")) }));
  expect(await rowsOf(attempt)).toBe(1);
  expect(JSON.parse(await read(link, "")).message).toBe("still here\n");
});

test("rows that are sealed while somebody reads them are read on from the object", async () => {
  const { link } = await endedBuild(LONG);
  const response = await api.fetch("GET", `/builds/${link}/log/lines`);
  const parts: Uint8Array[] = [];
  for await (const part of response.body as ReadableStream<Uint8Array>) {
    if (parts.length === 0) await seal();
    parts.push(part);
  }
  expect(Buffer.concat(parts).toString()).toBe(LONG);
});

test("a log whose object is gone breaks off: nothing else is shown in its place", async () => {
  const { link, attempt } = await endedBuild("lost\n");
  await seal();
  await api.deps.blobs.delete((await sealedKey(attempt)) as string);
  const response = await api.fetch("GET", `/builds/${link}/log/chunk/0`);
  await expect(response.text()).rejects.toThrow("is lost: its object is missing");
});
