import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { utf8 } from "#core/lib/bytes.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import {
  endAttempt,
  insertAttempt,
  insertBuild,
  insertEvaluationRow,
  insertProjectRow,
  linkBuild,
  writeLogRows,
} from "../support/rows.ts";

const ROW_BYTES = 64 * 1024;

let api: BuildsApi;
let organizationId: string;
let projectId: string;
beforeAll(async () => {
  api = await withBuildsApi();
  organizationId = api.organizationId;
  projectId = await insertProjectRow(api.db, { organizationId });
});
afterAll(() => api[Symbol.asyncDispose]());

/** A build with a running attempt that has written this so far. */
async function buildWithLog(...parts: readonly (string | Uint8Array)[]): Promise<{ link: string; attempt: string }> {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 2 });
  const link = await linkBuild(api.db, evaluation, build);
  const attempt = await insertAttempt(api.db, { organizationId, buildId: build });
  const rows = parts.map((part) => (typeof part === "string" ? utf8(part) : part));
  await writeLogRows(api.db, attempt, ...rows);
  return { link, attempt };
}

/** Rows of one size, as a hub makes them: they end within lines and within characters. */
function inRows(text: string, size = ROW_BYTES): Uint8Array[] {
  const bytes = utf8(text);
  const rows: Uint8Array[] = [];
  for (let start = 0; start < bytes.length; start += size) rows.push(bytes.subarray(start, start + size));
  return rows;
}

async function readText(link: string, path: string): Promise<string> {
  const response = await api.fetch("GET", `/builds/${link}/log${path}`);
  expect(response.status).toBe(200);
  return await response.text();
}

test("the whole log comes as one text, whatever bytes the builder wrote and wherever rows end", async () => {
  const text = 'a "quoted" \\ line\n\u001b[31mrot\u001b[0m ümläut 🦀\n\u0000\ttail without an end';
  const { link } = await buildWithLog(...inRows(text, 3));
  const answer = await api.fetch("GET", `/builds/${link}/log`, api.viewer);
  expect(answer.headers.get("content-security-policy")).toBe("sandbox");
  expect(answer.headers.get("cache-control")).toBe("no-store");
  expect(await answer.json()).toEqual({ error: false, message: text });

  const broken = await buildWithLog(Uint8Array.of(0x61, 0xff, 0x62, 0xe2, 0x82));
  expect((await api.ask("GET", `/builds/${broken.link}/log`)).message).toBe("a\ufffdb\ufffd");
});

test("a log of 50 MB is streamed: what the server holds of it stays small", async () => {
  const line = `${"x".repeat(99)}\n`;
  const row = utf8(line.repeat(2_500));
  const { link, attempt } = await buildWithLog();
  for (let count = 0; count < 200; count++) await writeLogRows(api.db, attempt, row);

  const response = await api.fetch("GET", `/builds/${link}/log`);
  const before = heldBytes();
  let length = 0;
  let nextLook = 0;
  let peak = 0;
  for await (const bytes of response.body as ReadableStream<Uint8Array>) {
    length += bytes.length;
    if (length < nextLook) continue;
    nextLook += 5_000_000;
    peak = Math.max(peak, heldBytes() - before);
  }
  // Each line feed is two characters of JSON.
  expect(length).toBe(50_000_000 + 500_000 + '{"error":false,"message":""}'.length);
  expect(peak).toBeLessThan(16 * 1024 * 1024);
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

test("chunks end at ends of lines, follow each other without a gap, and together are the log", async () => {
  const lines = Array.from({ length: 12_000 }, (_, index) => `line ${index + 1} ${"ü".repeat(index % 90)}\n`);
  const text = `${lines.join("")}the last one has no end`;
  const { link } = await buildWithLog(...inRows(text, 10_007));

  const index = (await api.ask("GET", `/builds/${link}/log/chunks`)).message;
  expect(index).toMatchObject({ total_lines: 12_001, total_bytes: utf8(text).length });
  expect(index.total_chunks).toBeGreaterThan(3);
  let whole = "";
  for (const chunk of index.chunks) {
    expect([chunk.byte_start, chunk.line_start]).toEqual([utf8(whole).length, whole.split("\n").length - 1]);
    const part = await readText(link, `/chunk/${chunk.index}`);
    expect(utf8(part).length).toBe(chunk.byte_len);
    expect(part.split("\n").length - (part.endsWith("\n") ? 1 : 0)).toBe(chunk.line_count);
    expect(part.endsWith("\n") || chunk.index === index.total_chunks - 1).toBe(true);
    whole += part;
  }
  expect(whole).toBe(text);
  expect((await api.ask("GET", `/builds/${link}/log/chunk/${index.total_chunks}`)).status).toBe(404);
  expect((await api.ask("GET", `/builds/${link}/log/chunk/x`)).code).toBe("validation");
});

test("a log of one endless line is one chunk, and an empty log has none", async () => {
  const endless = await buildWithLog(...inRows("x".repeat(700_000)));
  expect((await api.ask("GET", `/builds/${endless.link}/log/chunks`)).message).toMatchObject({
    total_chunks: 1,
    total_lines: 1,
    total_bytes: 700_000,
  });
  const empty = await buildWithLog();
  expect((await api.ask("GET", `/builds/${empty.link}/log/chunks`)).message).toEqual({
    total_chunks: 0,
    total_lines: 0,
    total_bytes: 0,
    chunks: [],
  });
});

test("a chunk that another one follows stays as it was while the log grows", async () => {
  const lines = Array.from({ length: 9_000 }, (_, index) => `line ${index} ${"-".repeat(80)}\n`).join("");
  const rows = inRows(lines, 5_003);
  const { link, attempt } = await buildWithLog(...rows.slice(0, 120));
  const chunksNow = async () => (await api.ask("GET", `/builds/${link}/log/chunks`)).message.chunks;
  const before = await chunksNow();
  await writeLogRows(api.db, attempt, ...rows.slice(120));
  const after = await chunksNow();
  expect(before.length).toBeGreaterThan(1);
  expect(after.length).toBeGreaterThan(before.length);
  expect(after.slice(0, before.length - 1)).toEqual(before.slice(0, -1));
});

test("lines are counted from 1 and both ends belong to the range", async () => {
  const lines = Array.from({ length: 500 }, (_, index) => `line ${index + 1}\n`);
  const { link } = await buildWithLog(...inRows(lines.join(""), 7));
  const range = (first: number, last: number) => lines.slice(first - 1, last).join("");
  expect(await readText(link, "/lines?start=1&end=1")).toBe(range(1, 1));
  expect(await readText(link, "/lines?start=199&end=201")).toBe(range(199, 201));
  expect(await readText(link, "/lines?range=L120-L130")).toBe(range(120, 130));
  expect(await readText(link, "/lines?range=L42")).toBe(range(42, 42));
  expect(await readText(link, "/lines?start=499")).toBe(range(499, 500));
  expect(await readText(link, "/lines?start=501&end=600")).toBe("");
  for (const query of ["start=0", "start=9&end=3", "range=L1..9", "start=-1", "end=x"]) {
    expect((await api.ask("GET", `/builds/${link}/log/lines?${query}`)).code).toBe("validation");
  }
});

test("every kind of place in a log is found by its line, in rows of any size", async () => {
  const text = "one\n\n\nfour\nfive five five five\n\nseven";
  const lines = text.split("\n");
  for (const size of [1, 2, 4, 5, 64]) {
    const { link } = await buildWithLog(...inRows(text, size));
    for (let line = 1; line <= lines.length; line++) {
      const end = line === lines.length ? "" : "\n";
      expect(await readText(link, `/lines?start=${line}&end=${line}`), `${size} ${line}`).toBe(lines[line - 1] + end);
    }
  }
});

test("a search lists each line that matches once, with its place, and counts them", async () => {
  const filler = Array.from({ length: 9_000 }, (_, index) => `compiling ${index} ${"=".repeat(60)}\n`).join("");
  const far = `${"y".repeat(300)}error far right`;
  const text = `first Error here\n${filler}\u001b[31mer\u001b[0mror: error twice\n${far}\nend`;
  const { link } = await buildWithLog(...inRows(text, 9_973));
  const records = async (query: string) =>
    (await readText(link, `/search?${query}`))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));

  const offsets = ["\u001b[31mer", "y".repeat(300)].map((start) => utf8(text.slice(0, text.indexOf(start))).length);
  const { chunks } = (await api.ask("GET", `/builds/${link}/log/chunks`)).message;
  const last = chunks.length - 1;
  expect(await records("q=error")).toEqual([
    { line_number: 1, chunk_index: 0, byte_offset: 0, preview: "first Error here" },
    { line_number: 9_002, chunk_index: last, byte_offset: offsets[0], preview: "error: error twice" },
    { line_number: 9_003, chunk_index: last, byte_offset: offsets[1], preview: `${"y".repeat(60)}error far right` },
    { done: true, total_matches: 3 },
  ]);
  expect(await records("q=Error&case=true")).toHaveLength(2);
  expect(await records("q=nowhere")).toEqual([{ done: true, total_matches: 0 }]);
  expect((await api.ask("GET", `/builds/${link}/log/search?q=`)).code).toBe("validation");
});

test("a search finds a match that lies across the parts of a very long line, once", async () => {
  const text = `${"a".repeat(65_530)}needle${"b".repeat(200_000)}needle\nafter\n`;
  const { link } = await buildWithLog(...inRows(text, 65_533));
  const found = (await readText(link, "/search?q=needle"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(found).toMatchObject([{ line_number: 1, byte_offset: 0 }, { total_matches: 1 }]);
});

/** The strings of a followed log, one after the other. */
async function* followed(link: string, signal?: AbortSignal): AsyncGenerator<string> {
  const response = await api.fetch("POST", `/builds/${link}/log`, api.viewer, signal ? { signal } : {});
  expect(response.status).toBe(200);
  expect(response.headers.get("x-accel-buffering")).toBe("no");
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of response.body as ReadableStream<Uint8Array>) {
    text += decoder.decode(bytes, { stream: true });
    for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n")) {
      yield JSON.parse(text.slice(0, end)) as string;
      text = text.slice(end + 1);
    }
  }
}

test("a followed log brings what is there, then what comes, and ends with the attempt", async () => {
  const { link, attempt } = await buildWithLog("first\n", "sec");
  const stream = followed(link);
  let text = "";
  const until = async (wanted: string) => {
    while (text !== wanted) {
      const { done, value } = await stream.next();
      if (done) throw new Error(`the stream ended with ${JSON.stringify(text)}`);
      text += value;
    }
  };
  await until("first\nsec");
  await writeLogRows(api.db, attempt, utf8("ond\n"), Uint8Array.of(0xe2, 0x82));
  api.notifier.notify("log", attempt);
  await until("first\nsecond\n");
  await writeLogRows(api.db, attempt, Uint8Array.of(0xac));
  await until("first\nsecond\n€");

  await endAttempt(api.db, attempt);
  api.notifier.notify("log", attempt);
  // The result overtook the last line: the reader is given time to see the end first.
  const rest = stream.next();
  await sleep(400);
  await writeLogRows(api.db, attempt, utf8("late\n"));
  expect((await rest).value).toBe("late\n");
  expect((await stream.next()).done).toBe(true);
});

test("following a build that no worker has taken yet begins when one does", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId });
  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 1 });
  const link = await linkBuild(api.db, evaluation, build);
  const stream = followed(link);
  const first = stream.next();
  await sleep(100);
  const attempt = await insertAttempt(api.db, { organizationId, buildId: build });
  await writeLogRows(api.db, attempt, utf8("begun\n"));
  expect((await first).value).toBe("begun\n");
  await endAttempt(api.db, attempt);
  expect((await stream.next()).done).toBe(true);
});

test("following a build that was never run ends at once", async () => {
  const evaluation = await insertEvaluationRow(api.db, { organizationId, projectId, status: 5 });
  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 7 });
  const stream = followed(await linkBuild(api.db, evaluation, build, { outcome: 7 }));
  expect((await stream.next()).done).toBe(true);
});
