import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { findTask, insertTask, TaskStatus } from "#core/db/admin-tasks.ts";
import { readIntegrityCounts } from "#core/db/nar-repairs.ts";
import { readRowPass } from "#core/db/scrub-rows.ts";
import { DAY } from "#core/lib/clock.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { diskStore } from "#test/cache/damage.ts";
import {
  type CacheBench,
  newId,
  randomContent,
  type StoredPath,
  storeFile,
  withCacheBench,
} from "#test/cache/support.ts";
import { readConfig } from "./config.ts";
import { keepIntegrity } from "./integrity-loops.ts";

let bench: CacheBench;
beforeAll(async () => {
  bench = await withCacheBench();
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  await sql`truncate nar, nar_file, cache_path, nar_damage, integrity_count cascade`.execute(bench.deps.db);
  await sql`update scrub_state set rows_after = null, rows_finished_at = null`.execute(bench.deps.db);
});

const DAYS_31 = sql<Date>`gradient_now() - interval '31 days'`;

async function old(name: string, content = randomContent(400_000)): Promise<StoredPath> {
  const path = await storeFile(bench, name, { content });
  await bench.deps.db.updateTable("nar").set({ verified_at: DAYS_31 }).execute();
  return path;
}

function settings(environment: Record<string, string>) {
  return readConfig(environment).config.integrity;
}

/** Runs the loops until `done` is true. */
async function loop(environment: Record<string, string>, done: () => Promise<boolean>, blobs = bench.deps.blobs) {
  const stopping = new AbortController();
  const running = keepIntegrity({ ...bench.deps, blobs }, settings(environment), {
    tasks: {},
    signal: stopping.signal,
  });
  await expect.poll(done, { timeout: 10_000 }).toBe(true);
  stopping.abort();
  await running;
}

const counts = () => readIntegrityCounts(bench.deps.db);

test("by default each NAR is read once in 30 days, at 8 MiB a second", () => {
  expect(settings({})).toEqual({ scrubBytesPerSecond: 8 * 1024 * 1024, scrubIntervalMs: 30 * DAY });
});

test("what is due is verified, what is damaged is repaired, and what a superuser asked for is done", async () => {
  await old("sound");
  const harmed = await old("harmed");
  await diskStore(bench).harm(harmed.nar.objectKey, "flip");
  const user = newId();
  const account = { id: user, username: user.slice(0, 20), name: "", email: `${user}@example.org` };
  await bench.deps.db.insertInto("user_account").values(account).execute();
  const task = newId();
  const parameters = { cache_id: null, unpack: true, repair: false, bytes_per_second: null };
  await insertTask(bench.deps.db, { id: task, kind: "verify", created_by: user, parameters });

  await loop({}, async () => {
    const { damaged_file_hash: damaged = 0, verified = 0 } = await counts();
    const row = await bench.deps.db.selectFrom("nar_damage").select("attempts").executeTakeFirst();
    const ended = (await findTask(bench.deps.db, task))?.status === TaskStatus.Completed;
    return damaged === 1 && verified >= 1 && row?.attempts === 1 && ended;
  });
});

test("GRADIENT_SCRUB_INTERVAL_HOURS: what was verified within it is left alone", async () => {
  await old("a");
  const gets = counting();
  await loop({ GRADIENT_SCRUB_INTERVAL_HOURS: "800" }, rowsCompared, gets.blobs);
  expect(gets.count()).toBe(0);
  await loop({ GRADIENT_SCRUB_INTERVAL_HOURS: "700" }, async () => gets.count() === 1, gets.blobs);
});

test("GRADIENT_SCRUB_BYTES_PER_SECOND: 0 reads nothing, and a small one reads slowly", async () => {
  await old("a");
  const gets = counting();
  await loop({ GRADIENT_SCRUB_BYTES_PER_SECOND: "0" }, rowsCompared, gets.blobs);
  expect(gets.count()).toBe(0);
  // 400 kB at 64 KiB a second: it is far from its end when the loop is stopped.
  await loop({ GRADIENT_SCRUB_BYTES_PER_SECOND: "65536" }, async () => gets.count() === 1, gets.blobs);
  expect(await counts()).toEqual({});
});

test("a pace at which nothing would ever be read is refused", () => {
  expect(() => settings({ GRADIENT_SCRUB_BYTES_PER_SECOND: "10" })).toThrow(
    "GRADIENT_SCRUB_BYTES_PER_SECOND=10: must be 0 (off) or at least 65536",
  );
});

test("loops go on when the store fails, and are quick to end", async () => {
  await old("a");
  let asked = 0;
  const blobs: BlobStore = {
    ...bench.deps.blobs,
    get: async () => {
      asked++;
      throw new Error("connection refused");
    },
    list: async () => {
      throw new Error("connection refused");
    },
  };
  await loop({}, async () => asked > 0, blobs);
  expect(await counts()).toEqual({});
});

/** The comparison of rows begins together with the scrub, and ends after the scrub has begun. */
async function rowsCompared(): Promise<boolean> {
  return (await readRowPass(bench.deps.db)).finishedAgoMs !== null;
}

function counting(): { blobs: BlobStore; count: () => number } {
  let gets = 0;
  const get: BlobStore["get"] = async (key, range) => {
    gets++;
    return await bench.deps.blobs.get(key, range);
  };
  return { blobs: { ...bench.deps.blobs, get }, count: () => gets };
}
