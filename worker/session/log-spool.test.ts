import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { concatBytes, fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { clearSpools, LogSpool, spoolPath } from "./log-spool.ts";

const ATTEMPT = "01890000-0000-7000-8000-00000000000a";

let folder: TemporaryFolder;

beforeEach(async () => {
  folder = await withTemporaryFolder();
});

afterEach(async () => {
  await folder[Symbol.asyncDispose]();
});

async function readAll(spool: LogSpool, from = 0): Promise<string> {
  const parts: Uint8Array[] = [];
  let offset = from;
  for (let bytes = await spool.read(offset); bytes !== null; bytes = await spool.read(offset)) {
    parts.push(bytes);
    offset += bytes.length;
  }
  return fromUtf8(concatBytes(parts));
}

function lines(count: number, from = 0): string {
  return Array.from({ length: count }, (_, i) => `line ${String(from + i).padStart(8, "0")}\n`).join("");
}

test("a small log stays in memory, and is read from any place", async () => {
  const spool = new LogSpool(spoolPath(folder.path, ATTEMPT));
  spool.append(utf8("one\n"));
  spool.append(utf8("two\n"));
  spool.end();

  expect(await readAll(spool)).toBe("one\ntwo\n");
  expect(await readAll(spool, 2)).toBe("e\ntwo\n");
  expect(await readdir(folder.path)).toEqual([]);
  await spool.close();
});

test("a long log is the same from disk, and its file is gone when it is over", async () => {
  const spool = new LogSpool(spoolPath(folder.path, ATTEMPT));
  for (let i = 0; i < 100; i++) spool.append(utf8(lines(1_000, 1_000 * i)));
  const reading = readAll(spool, 7);
  spool.end();

  expect(await reading).toBe(lines(100_000).slice(7));
  expect(await readAll(spool, 1_000_000)).toBe(lines(100_000).slice(1_000_000));
  expect(await readdir(folder.path)).toEqual([`${ATTEMPT}.log`]);
  await spool.close();
  expect(await readdir(folder.path)).toEqual([]);
});

test("a million lines of two bytes cost little more memory than their bytes", async () => {
  const spool = new LogSpool(spoolPath(folder.path, ATTEMPT));
  const before = process.memoryUsage().rss;
  const line = utf8("y\n");
  for (let i = 0; i < 1_000_000; i++) spool.append(line);
  spool.end();
  expect(process.memoryUsage().rss - before).toBeLessThan(100 * 2 ** 20);

  let [pieces, offset] = [0, 0];
  for (let bytes = await spool.read(0); bytes !== null; bytes = await spool.read(offset)) {
    offset += bytes.length;
    pieces++;
  }
  expect(offset).toBe(2_000_000);
  expect(pieces).toBeLessThan(50);
  await spool.close();
});

test("a reader waits for what is written next", async () => {
  const spool = new LogSpool(spoolPath(folder.path, ATTEMPT));
  const first = spool.read(0);
  spool.append(utf8("late\n"));

  expect(fromUtf8((await first) as Uint8Array)).toBe("late\n");
  const end = spool.read(5);
  spool.end();
  expect(await end).toBeNull();
  await spool.close();
});

test("where the disk does not take it, the log ends with a line that says so, after all that came before", async () => {
  const spool = new LogSpool(join(folder.path, "no-such-folder", "spool"));
  const start = lines(50_000);
  for (let i = 0; i < 5; i++) spool.append(utf8(lines(10_000, 10_000 * i)));
  const reading = readAll(spool);

  const log = await reading;
  spool.append(utf8("more\n"));
  spool.end();

  expect(log.startsWith(start)).toBe(true);
  expect(log.slice(start.length)).toMatch(
    /^\n\[gradient: log truncated: the worker cannot keep it \(ENOENT.*\); the build goes on\]\n$/,
  );
  expect(await readAll(spool)).toBe(log);
  expect(await readAll(spool, start.length + 5)).toBe(log.slice(start.length + 5));
  await spool.close();
});

test("a line behind what is on disk is read at once, and so is each that follows while that is written", async () => {
  const spool = new LogSpool(spoolPath(folder.path, ATTEMPT));
  let offset = 0;
  for (let i = 0; i < 200; i++) {
    const text = i % 2 === 0 ? `${i}\n` : lines(1_000, 1_000 * i);
    spool.append(utf8(text));
    let read = "";
    while (read.length < text.length) read += fromUtf8((await spool.read(offset + read.length)) as Uint8Array);
    expect(read).toBe(text);
    offset += text.length;
  }
  await spool.close();
});

test("what an earlier run left is removed, and nothing else", async () => {
  const logs = join(folder.path, "logs");
  await mkdir(logs);
  await writeFile(spoolPath(logs, ATTEMPT), "left over");
  await writeFile(join(logs, "notes.log"), "somebody's");

  await clearSpools(logs);

  expect(await readdir(logs)).toEqual(["notes.log"]);
  expect(await readFile(join(logs, "notes.log"), "utf8")).toBe("somebody's");
  await clearSpools(join(folder.path, "made"));
  expect(await readdir(join(folder.path, "made"))).toEqual([]);
});
