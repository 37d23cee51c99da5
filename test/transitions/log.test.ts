import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import { writeLog } from "#core/services/build-log-write.ts";
import { newId } from "../support/rows.ts";
import { node } from "./nodes.ts";
import { claimOne, evaluate, type World, withWorld } from "./support.ts";

let world: World;
let attemptId: string;
beforeEach(async () => {
  world = await withWorld();
  await evaluate(world, [node("a")]);
  attemptId = (await claimOne(world, "a")).attemptId;
});
afterEach(() => world[Symbol.asyncDispose]());

function write(offset: number, ...parts: readonly string[]): Promise<void> {
  const { db, deps } = world;
  const bytes = parts.map((part) => new TextEncoder().encode(part));
  const stream = ReadableStream.from(bytes) as ReadableStream<Uint8Array<ArrayBuffer>>;
  return writeLog({ db, clock: systemClock, notifier: deps.notifier }, attemptId, { offset, stream });
}

async function stored() {
  const chunks = await world.db.selectFrom("attempt_log_chunk").selectAll().orderBy("byte_start").execute();
  const { log_bytes, log_lines } = await world.db
    .selectFrom("attempt")
    .select(["log_bytes", "log_lines"])
    .where("id", "=", attemptId)
    .executeTakeFirstOrThrow();
  let end = 0;
  let lines = 0;
  for (const chunk of chunks) {
    expect(chunk).toMatchObject({ byte_start: end, line_start: lines, byte_length: chunk.data.length });
    end += chunk.data.length;
    lines += new TextDecoder().decode(chunk.data).split("\n").length - 1;
  }
  expect({ log_bytes, log_lines }).toEqual({ log_bytes: end, log_lines: lines });
  return chunks.map(({ data }) => new TextDecoder().decode(data)).join("");
}

test("a log goes on where the last session left it, and what is sent again is stored once", async () => {
  await write(0, "one\n", "two\nthr");
  expect(await stored()).toBe("one\ntwo\nthr");
  await write(4, "two", "\nthree\n", "four");
  expect(await stored()).toBe("one\ntwo\nthree\nfour");
  await write(0, "one\ntwo\n");
  expect(await stored()).toBe("one\ntwo\nthree\nfour");
  expect(world.notified).toContain(`log ${attemptId}`);
});

test("a part that does not join on to what is stored is refused, and so is a log of no attempt", async () => {
  await write(0, "one\n");
  await expect(write(5, "x")).rejects.toThrow(/does not join/);
  expect(await stored()).toBe("one\n");
  attemptId = newId();
  await expect(write(0, "x")).rejects.toThrow(/does not join/);
});

test("a log that grows while it waits for the disk is stored in order, in bounded pieces", async () => {
  const parts = Array.from({ length: 40 }, (_, i) => `${i}${"x".repeat(20_000)}\n`);
  await write(0, ...parts);
  expect(await stored()).toBe(parts.join(""));
  const { length } = await world.db.selectFrom("attempt_log_chunk").select("byte_length").execute();
  expect(length).toBeGreaterThan(2);
  expect(length).toBeLessThan(10);
});

test("a log that grows too long ends with a line that says so, and its sender is told to stop", async () => {
  const { db, deps } = world;
  let sent = 0;
  async function* endless(): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    for (;;) yield new TextEncoder().encode(`line ${String(sent++).padStart(4, "0")}\n`);
  }
  const logDeps = { db, clock: systemClock, notifier: deps.notifier };
  await writeLog(logDeps, attemptId, { offset: 0, stream: endless(), bytesMax: 1_000 });

  expect(sent).toBe(101);
  expect(await stored()).toMatch(/line 0100\n\n\[gradient: log truncated: no more than 1000 bytes of it are kept\]\n$/);
  await writeLog(logDeps, attemptId, { offset: 5_000, stream: endless(), bytesMax: 1_000 });
  expect(sent).toBe(101);
});

test("of two sessions that write one log only one goes on, and nothing is stored twice", async () => {
  const results = await Promise.allSettled([write(0, "from the old\n"), write(0, "from the new\n")]);
  expect(results.filter(({ status }) => status === "fulfilled").length).toBeGreaterThan(0);
  expect(["from the old\n", "from the new\n"]).toContain(await stored());
});

test("a line is stored while the stream is quiet, before it ends", async () => {
  let close = () => {};
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start: (controller) => {
      controller.enqueue(new TextEncoder().encode("early\n"));
      close = () => controller.close();
    },
  });
  const written = writeLog({ db: world.db, clock: systemClock, notifier: world.deps.notifier }, attemptId, {
    offset: 0,
    stream,
  });
  await expect.poll(stored).toBe("early\n");
  close();
  await written;
  expect(await stored()).toBe("early\n");
});
