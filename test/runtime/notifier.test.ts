import { sql } from "kysely";
import { expect, test } from "vitest";
import type { Topic } from "#core/ports/notifier.ts";
import { type RunningNotifier, startNotifier } from "#runtime/node/notifier.ts";
import { withDatabase } from "#test/support/database.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";

test("a wake-up arrives at once here and soon at another server, once at each", async () => {
  await using database = await withDatabase();
  await using here = await started(database.address);
  await using there = await started(database.address);
  const heardHere = listen(here, "work");
  const heardThere = listen(there, "work");

  here.notify("work", "an-organization");

  expect(heardHere).toEqual(["an-organization"]);
  await expect.poll(() => heardThere).toEqual(["an-organization"]);
  there.notify("work", "the-end");
  await expect.poll(() => heardHere).toEqual(["an-organization", "the-end"]);
});

test("equal wake-ups in a row travel as one, different ones all arrive", async () => {
  await using database = await withDatabase();
  await using here = await started(database.address);
  await using there = await started(database.address);
  const work = listen(there, "work");
  const paths = listen(there, "path");

  for (let i = 0; i < 1_000; i++) {
    here.notify("work", "same");
    here.notify("path", `cache/${i}`);
  }

  await expect.poll(() => paths.length).toBe(1_000);
  expect(paths).toEqual(Array.from({ length: 1_000 }, (_, i) => `cache/${i}`));
  expect(work).toEqual(["same"]);
});

test("a lost connection is made anew", async () => {
  await using database = await withDatabase();
  await using here = await started(database.address);
  await using there = await started(database.address);
  const heard = listen(there, "evaluation");
  await sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'gradient notifier'
    and datname = current_database()`.execute(database.db);

  await expect
    .poll(
      () => {
        here.notify("evaluation", "again");
        return heard;
      },
      { timeout: 10_000, interval: 100 },
    )
    .toContain("again");
});

test("whoever was without a connection is told that it may have missed something", async () => {
  await using database = await withDatabase();
  await using here = await started(database.address);
  const missed = listen(here, "missed");
  await sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'gradient notifier'
    and datname = current_database()`.execute(database.db);

  await expect.poll(() => missed, { timeout: 10_000 }).toEqual([""]);
});

test("when more waits than can be kept, the others are told that they missed something", async () => {
  await using database = await withDatabase();
  await using here = await started(database.address);
  await using there = await started(database.address);
  const missed = listen(there, "missed");

  for (let i = 0; i < 10_001; i++) here.notify("path", `cache/${i}`);

  await expect.poll(() => missed, { timeout: 10_000 }).toEqual([""]);
});

test("an ended subscription hears nothing, and foreign texts on the channel are ignored", async () => {
  await using database = await withDatabase();
  await using here = await started(database.address);
  const heard = listen(here, "work");
  const ended: string[] = [];
  here.subscribe("work", (subject) => ended.push(subject))();

  for (const text of ["", "{", "[]", '["00000000-0000-0000-0000-000000000000",["nope","x"],["work",1],"work"]']) {
    await sql`select pg_notify('gradient', ${text})`.execute(database.db);
  }
  await sql`select pg_notify('gradient', '["00000000-0000-0000-0000-000000000000",["work","known"]]')`.execute(
    database.db,
  );

  await expect.poll(() => heard).toEqual(["known"]);
  expect(ended).toEqual([]);
});

async function started(address: Parameters<typeof startNotifier>[0]): Promise<RunningNotifier & AsyncDisposable> {
  const notifier = await startNotifier(address, quietLogger);
  return {
    notify: (topic, subject) => notifier.notify(topic, subject),
    subscribe: (topic, handler) => notifier.subscribe(topic, handler),
    close: () => notifier.close(),
    [Symbol.asyncDispose]: () => notifier.close(),
  };
}

function listen(notifier: RunningNotifier, topic: Topic): string[] {
  const heard: string[] = [];
  notifier.subscribe(topic, (subject) => heard.push(subject));
  return heard;
}
