import { sql, type Transaction } from "kysely";
import { afterAll, beforeEach, expect, test } from "vitest";
import { touchPaths } from "#core/db/cache-paths.ts";
import type { Database } from "#core/db/schema.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { commitPaths } from "#core/services/cache-commit.ts";
import { MissingReferenceError } from "#core/services/cache-promote.ts";
import { createPathUses } from "#core/services/cache-uses.ts";
import { heldPaths } from "#core/services/paths-availability.ts";
import { sweepNars } from "#core/services/retention-rows.ts";
import { flushOwnUses, flushUsesEverywhere } from "#core/services/uses-flush.ts";
import { newId, type StoredPath, storeFile } from "../cache/support.ts";
import { buildOf, NEVER, type RetentionBench, withRetentionBench } from "./support.ts";

const bench: RetentionBench = await withRetentionBench();
afterAll(() => bench[Symbol.asyncDispose]());
const { db, notifier, clock, log } = bench.deps;
const cacheId = bench.cache.id;
beforeEach(async () => {
  await sql`truncate cache_path, nar, evaluation, build, cache_pin, cache_usage, lost_path, server cascade`.execute(db);
});

/** Begins a transaction, sweeps while it is open, ends it, and sweeps once more. */
async function around(
  begun: (trx: Transaction<Database>) => Promise<void>,
): Promise<{ during: string[]; after: string[] }> {
  const during = await db.transaction().execute(async (trx) => {
    await begun(trx);
    await bench.sweep();
    return await bench.names();
  });
  await bench.sweep();
  return { during, after: await bench.names() };
}

function commit(trx: Transaction<Database>, paths: readonly StoredPath[]) {
  const { secretKeyOf } = bench;
  return commitPaths(trx, { secretKeyOf }, { cacheIds: [cacheId], organizationId: null, paths });
}

/** As of the moment when the sweep has decided what goes, and deletes nothing yet. */
async function whileDoomed(names: readonly string[], then: () => Promise<void>): Promise<void> {
  const serverId = newId();
  await sql`insert into server (id, last_seen_at) values (${serverId}, gradient_now())`.execute(db);
  const swept = bench.sweep();
  await expect
    .poll(async () => (await db.selectFrom("retention_step").select("subject").execute()).length, { interval: 10 })
    .toBe(names.length);
  await then();
  await flushOwnUses({ db, uses: { flush: async () => {} } }, serverId);
  await swept;
}

test("a reference that a commit relies on stays, whether a sweep comes before its end or after", async () => {
  const lib = await bench.add("lib");
  const app = await storeFile(bench, "app", { references: [lib.storePath] });

  const { during, after } = await around(async (trx) => void (await commit(trx, [app])));

  expect(during).toEqual(["lib"]);
  expect(after).toEqual(["app", "lib"]);
});

test("a commit whose reference a sweep has taken is told which one is missing", async () => {
  const lib = await bench.add("lib");
  const app = await storeFile(bench, "app", { references: [lib.storePath] });
  await bench.sweep();

  await expect(bench.commit([cacheId], [app])).rejects.toThrow(MissingReferenceError);
});

test("commits and sweeps at once never leave a path without what it refers to", async () => {
  for (let round = 0; round < 8; round++) {
    const libs = await Promise.all([1, 2, 3, 4].map((n) => bench.add(`lib-${round}-${n}`)));
    const apps = await Promise.all(
      libs.map((lib, n) => storeFile(bench, `app-${round}-${n}`, { references: [lib.storePath] })),
    );
    await Promise.all([
      bench.sweep(),
      ...apps.map((app) =>
        bench.commit([cacheId], [app]).catch((error: unknown) => {
          expect(error).toBeInstanceOf(MissingReferenceError);
        }),
      ),
    ]);
  }
  const { rows } = await sql`
    select p.store_path, r.name from cache_path p cross join unnest(p."references") r (name)
    where not exists (select from cache_path h where h.cache_id = p.cache_id and h.store_path = r.name)`.execute(db);
  expect(rows).toEqual([]);
});

test("a path that a new evaluation finds available stays", async () => {
  const output = await bench.add("output");
  const { buildId, evaluationId } = await buildOf(bench, output.storePath);
  await sql`delete from evaluation_build`.execute(db);

  const { during, after } = await around(async (trx) => {
    const held = await heldPaths(trx, bench.organizationId, [output.storePath]);
    expect([...held.keys()]).toEqual([output.storePath]);
    await sql`insert into evaluation_build (id, evaluation_id, build_id, outcome)
      values (${newId()}, ${evaluationId}, ${buildId}, 3)`.execute(trx);
  });

  expect(during).toEqual(["output"]);
  expect(after).toEqual(["output"]);
});

test("an evaluation does not find available what a sweep is about to take", async () => {
  const output = await bench.add("output");
  let found: Promise<Map<StorePath, string>> | undefined;
  await db.transaction().execute(async (trx) => {
    await sql`select from cache_path for update`.execute(trx);
    found = db.transaction().execute((other) => heldPaths(other, bench.organizationId, [output.storePath]));
    await trx.deleteFrom("cache_path").execute();
  });
  expect(await found).toEqual(new Map());
});

test("a path that was asked for after the sweep had doomed it stays, and so does what it refers to", async () => {
  const lib = await bench.add("lib");
  const app = await bench.add("app", { references: [lib.storePath] });
  await bench.add("other");

  await whileDoomed(["app", "other"], async () => {
    await touchPaths(db, [{ cacheId, hash: app.storePath.slice(11, 43), count: 1, isDue: false }]);
  });

  expect(await bench.names()).toEqual(["app", "lib"]);
});

test("a path that was pinned, built or referred to after the sweep had doomed it stays", async () => {
  const pinned = await bench.add("pinned");
  const built = await bench.add("built");
  const lib = await bench.add("lib");
  const app = await storeFile(bench, "app", { references: [lib.storePath] });

  await whileDoomed(["pinned", "built", "lib"], async () => {
    const id = newId();
    await sql`insert into cache_pin (id, cache_id, name, keep_revisions) values (${id}, ${cacheId}, 'p', 1)`.execute(
      db,
    );
    await sql`
      insert into cache_pin_revision (pin_id, revision, cache_id, hash, store_path)
      values (${id}, 1, ${cacheId}, ${pinned.storePath.slice(11, 43)}, ${pinned.storePath.slice(11)})`.execute(db);
    await buildOf(bench, built.storePath);
    await bench.commit([cacheId], [app]);
  });

  expect(await bench.names()).toEqual(["app", "built", "lib", "pinned"]);
});

test("what servers hold in memory counts: a sweep waits until each has written it down", async () => {
  const serverId = newId();
  await sql`insert into server (id, last_seen_at) values (${serverId}, gradient_now())`.execute(db);
  const used = await bench.add("used");
  const uses = createPathUses({ db, clock, log });
  uses.touch(`${cacheId}/${used.storePath.slice(11, 43)}`);
  const unsubscribe = notifier.subscribe("uses", () => void flushOwnUses({ db, uses }, serverId));

  await bench.sweep();
  unsubscribe();

  expect(await bench.names()).toEqual(["used"]);
});

test("a server that is gone is not waited for, and one that is silent but alive holds a sweep back", async () => {
  await sql`insert into server (id, last_seen_at) values (${newId()}, gradient_now() - interval '1 hour')`.execute(db);
  expect(await flushUsesEverywhere({ db, notifier, clock }, NEVER)).toBe(true);

  await sql`insert into server (id, last_seen_at) values (${newId()}, gradient_now())`.execute(db);
  let asked = 0;
  const late = { ...clock, monotonic: () => 3_600_000 * asked++ };
  expect(await flushUsesEverywhere({ db, notifier, clock: late }, NEVER)).toBe(false);
});

test("a NAR that a commit is about to name stays, and one that a sweep has taken is asked for again", async () => {
  const path = await storeFile(bench, "path");
  await sql`update nar set claimed_at = gradient_now() - interval '2 days'`.execute(db);

  await db.transaction().execute(async (trx) => {
    await commit(trx, [path]);
    expect(await sweepNars(bench.retentionDeps(), NEVER)).toMatchObject({ nars: 0 });
  });
  expect(await sweepNars(bench.retentionDeps(), NEVER)).toMatchObject({ nars: 0 });

  await sql`delete from cache_path`.execute(db);
  expect(await sweepNars(bench.retentionDeps(), NEVER)).toMatchObject({ nars: 1 });
  await expect(bench.commit([cacheId], [path])).rejects.toThrow(/upload it first/);
});

test("two sweeps at once take each thing once and leave what a single one would", async () => {
  const bottom = await bench.add("bottom");
  for (let n = 0; n < 20; n++) await bench.add(`top-${n}`, { references: [bottom.storePath], days: n < 10 ? 30 : 1 });

  const [first, second] = await Promise.all([bench.sweep(), bench.sweep()]);

  expect((first?.paths ?? 0) + (second?.paths ?? 0)).toBe(10);
  expect(await bench.names()).toHaveLength(11);
});
