import { sql } from "kysely";
import { expect, test } from "vitest";
import { HOUR, MINUTE } from "#core/lib/clock.ts";
import type { AuditDeps } from "#core/services/transitions/audit.ts";
import { keepAuditing } from "#runtime/node/audit-loop.ts";
import { withDatabase } from "#test/support/database.ts";
import { ManualClock } from "#test/support/manual-clock.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";
import { insertBuild, insertOrganization } from "#test/support/rows.ts";

const WITHIN = { timeout: 20_000 };

test("the server deletes what was begun and drops old records, also without an audit of the graph", async () => {
  await using database = await withDatabase();
  const { db } = database;
  const clock = new ManualClock();
  const buried = await insertOrganization(db, { name: "buried" });
  await insertBuild(db, { organizationId: buried, name: "left" });
  await sql`update organization set deleted_at = gradient_now() where id = ${buried}`.execute(db);
  const kept = await insertOrganization(db, { name: "kept" });
  await sql`
    insert into audit_event (id, event, created_at)
    values (gen_random_uuid(), 'old', gradient_now() - interval '401 days'),
      (gen_random_uuid(), 'young', gradient_now())`.execute(db);
  const organizations = async () => (await db.selectFrom("organization").select("id").execute()).map(({ id }) => id);
  const events = async () => (await db.selectFrom("audit_event").select("event").execute()).map(({ event }) => event);

  const stop = new AbortController();
  const deps = { db, clock, log: quietLogger } as unknown as AuditDeps;
  const auditing = keepAuditing(deps, { intervalMs: 0, signal: stop.signal });
  await clock.advance(MINUTE);
  await expect.poll(organizations, WITHIN).toEqual([kept]);
  expect(await events()).toHaveLength(2);
  await clock.advance(HOUR);
  await expect.poll(events, WITHIN).toEqual(["young"]);
  stop.abort();
  await auditing;
});
