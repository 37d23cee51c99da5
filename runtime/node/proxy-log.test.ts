import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { mkdir, readdir, rm, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { countSent, keepCountingSent } from "./proxy-log.ts";

const CACHE = "01a20855-463c-75b2-aba1-a0b99cf5921c";
const LINE = `${CACHE} 12345`;
/** In the seconds 100 to 110. */
const FILE = "sent-10";

function deps({ now = 120_000 } = {}) {
  const sent: (readonly [string, number])[] = [];
  const traffic = { sent: (...line: readonly [string, number]) => void sent.push(line) };
  return { sent, traffic, clock: { ...systemClock, now: () => now } };
}

test("each line of the proxy is a NAR that was sent; everything else counts as nothing", async () => {
  await using folder = await withTemporaryFolder();
  const others = ["", CACHE, `${LINE} `, ` ${LINE}`, `${LINE}00000000000`, LINE.replace("01a2", "zzzz"), "\0"];
  // Longer than what is read at once, and with a line of ours behind it.
  const endless = `${"x".repeat(300_000)}${LINE}`;
  const lines = [LINE, ...others, endless, LINE.replace("12345", "0"), ...Array(5_000).fill(LINE), LINE.slice(0, -1)];
  await writeFile(join(folder.path, FILE), lines.join("\n"));
  const { sent, ...counted } = deps();
  expect(await countSent(folder.path, counted)).toBeNull();
  expect(sent.slice(0, 2)).toEqual([
    [CACHE, 12_345],
    [CACHE, 0],
  ]);
  expect(sent.slice(2)).toEqual(Array(5_000).fill([CACHE, 12_345]));
  expect(await readdir(folder.path)).toEqual([]);
});

test("what nginx may still write into stays, and so does what is not its own", async () => {
  await using folder = await withTemporaryFolder();
  const { sent, ...counted } = deps({ now: 119_999 });
  const names = ["sent-", "sent-x", "sent-1.gz", "sent", "other", "sent-123456789012"];
  for (const name of [FILE, ...names]) await writeFile(join(folder.path, name), `${LINE}\n`);
  await mkdir(join(folder.path, "sent-1"));
  await symlink(join(folder.path, "other"), join(folder.path, "sent-2"));
  spawnSync("mkfifo", [join(folder.path, "sent-3")]);
  // Of no account: a file may be written long after the last time.
  await utimes(join(folder.path, FILE), 0, 0);
  expect(await countSent(folder.path, counted)).toBeNull();
  expect(sent).toEqual([]);
  expect(await readdir(folder.path)).toHaveLength(names.length + 4);
});

test("of several processes one counts a file", async () => {
  await using folder = await withTemporaryFolder();
  for (let i = 0; i < 10; i++) await writeFile(join(folder.path, `sent-${i}`), `${LINE}\n`.repeat(1_000));
  const { sent, ...counted } = deps();
  const failures = await Promise.all(Array.from({ length: 8 }, () => countSent(folder.path, counted)));
  expect(failures).toEqual(Array(8).fill(null));
  expect(sent).toHaveLength(10_000);
});

test("why a folder cannot be read is told once, and it is read when it can be", async () => {
  await using folder = await withTemporaryFolder();
  const path = join(folder.path, "sent");
  const warned: string[] = [];
  const { sent, traffic } = deps();
  const waiting: (() => void)[] = [];
  const clock = {
    ...systemClock,
    schedule: (_ms: number, action: () => void) => {
      waiting.push(action);
      return () => {};
    },
  };
  const round = async (n: number) => {
    await expect.poll(() => waiting.length).toBe(n);
    waiting.at(-1)?.();
  };
  const stopping = new AbortController();
  const log = { warn: (words: string) => void warned.push(words) };
  const ended = keepCountingSent(path, { traffic, clock, log }, stopping.signal);
  await round(1);
  await round(2);
  expect(warned).toHaveLength(1);
  await mkdir(path);
  await writeFile(join(path, FILE), `${LINE}\n`);
  await round(3);
  await rm(path, { recursive: true });
  await writeFile(path, "no folder");
  await round(4);
  await rm(path);
  await round(5);
  await expect.poll(() => warned.length).toBe(3);
  expect(warned[0]).toMatch(/^not all of what nginx sends is counted\. .*GRADIENT_NGINX_LOG_PATH.*2770/);
  expect(sent).toEqual([[CACHE, 12_345]]);
  stopping.abort();
  await ended;
});

test("files that cannot be taken are told of once, however many there are", async () => {
  await using folder = await withTemporaryFolder();
  const warned: string[] = [];
  const { traffic } = deps();
  const stopping = new AbortController();
  let rounds = 0;
  const denied = () => {
    throw Object.assign(new Error(`EACCES: permission denied, open 'sent-${rounds}'`), { code: "EACCES" });
  };
  const clock = {
    ...systemClock,
    schedule(_ms: number, action: () => void) {
      writeFileSync(join(folder.path, `sent-${++rounds}`), `${LINE}\n`);
      if (rounds === 4) stopping.abort();
      return systemClock.schedule(0, action);
    },
  };
  const log = { warn: (words: string) => void warned.push(words) };
  await keepCountingSent(folder.path, { traffic: { ...traffic, sent: denied }, clock, log }, stopping.signal);
  expect(rounds).toBe(4);
  expect(warned).toHaveLength(1);
});

test("a file that no nginx wrote is read to a limit, and one that cannot be read keeps no other from it", async () => {
  await using folder = await withTemporaryFolder();
  const { sent, ...counted } = deps();
  await writeFile(join(folder.path, "sent-1"), `${LINE}\n`);
  await truncate(join(folder.path, "sent-1"), 1024 ** 4);
  expect(await countSent(folder.path, counted)).toBeNull();
  for (const name of ["sent-2", "sent-3", "sent-4"]) await writeFile(join(folder.path, name), `${LINE}\n`);
  const traffic = {
    sent: () => {
      throw new Error("it cannot be counted");
    },
  };
  expect(await countSent(folder.path, { ...counted, traffic })).toMatchObject({ message: "it cannot be counted" });
  expect(await readdir(folder.path)).toEqual([]);
  expect(sent).toEqual([[CACHE, 12_345]]);
});

test("a server that stops leaves the files that it has not begun to the next one", async () => {
  await using folder = await withTemporaryFolder();
  await writeFile(join(folder.path, FILE), `${LINE}\n`);
  const { sent, ...counted } = deps();
  expect(await countSent(folder.path, counted, AbortSignal.abort())).toBeNull();
  expect(sent).toEqual([]);
  expect(await readdir(folder.path)).toEqual([FILE]);
});
