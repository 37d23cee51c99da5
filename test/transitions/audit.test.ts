import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type AuditDeps, type AuditFindings, auditGraph, pruneSessions } from "#core/services/transitions/audit.ts";
import { Upstreams } from "#core/services/upstreams.ts";
import { keepAuditing } from "#runtime/node/audit-loop.ts";
import { nodeCodec } from "#runtime/node/codec.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import { recordingLogger } from "../support/recording-logger.ts";
import { newId } from "../support/rows.ts";
import { node, outputPathOf } from "./nodes.ts";
import {
  buildStates,
  checkInvariants,
  claim,
  claimOne,
  evaluate,
  evaluationState,
  losePath,
  startEvaluation,
  succeed,
  type World,
  withWorld,
} from "./support.ts";

let world: World;
beforeEach(async () => {
  world = await withWorld();
});
afterEach(async () => {
  try {
    await checkInvariants(world.db);
  } finally {
    await world[Symbol.asyncDispose]();
  }
});

const NOTHING: AuditFindings = {
  counter: 0,
  edge: 0,
  readiness: 0,
  lease: 0,
  dependency: 0,
  evaluation: 0,
  attempt: 0,
  output: 0,
};
const forEver = new AbortController().signal;

function auditDeps(): AuditDeps {
  const get = () => Promise.reject(new Error("nobody is asked here"));
  const secrets = { open: get };
  const ports = { outbound: { get }, codec: nodeCodec, hasher: nodeHasher, secrets, viaName: "ci.example.com" };
  return { ...world.deps, upstreams: new Upstreams({ ...world.deps, ...ports, upstreamQueriesMax: 1 }) };
}

async function audit(): Promise<Partial<AuditFindings>> {
  const found = await auditGraph(auditDeps(), forEver);
  expect(await auditGraph(auditDeps(), forEver)).toEqual(NOTHING);
  return Object.fromEntries(Object.entries(found).filter(([, count]) => count > 0));
}

/** A chain of three, of which the first is built. */
async function chain(): Promise<string> {
  const id = await evaluate(world, [node("a"), node("b", { needs: ["a"] }), node("c", { needs: ["b"] })]);
  await succeed(world, await claimOne(world, "a"));
  return id;
}

test("where every transition did its work there is nothing to mend, and nothing is said", async () => {
  await chain();
  await claimOne(world, "b");
  const log = recordingLogger();

  expect(await auditGraph({ ...auditDeps(), log }, forEver)).toEqual(NOTHING);

  expect(log.lines).toEqual([]);
});

test.each([
  ["a counter that is off", "update build set pending_dependencies = 7 where name = 'c'", { counter: 1 }],
  ["a counter that lets a build wait for ever", "update build set status = 0 where name = 'b'", { readiness: 1 }],
  ["a build that is ready without its input", "update build set status = 1 where name = 'c'", { readiness: 1 }],
  ["a ready build without a time", "update build set ready_at = null where name = 'b'", { readiness: 1 }],
  [
    "an edge that was not told",
    "update build_edge set satisfied = true where build_id = (select id from build where name = 'c')",
    { counter: 1, edge: 1 },
  ],
  ["a build that runs without a lease", "update build set status = 2 where name = 'b'", { lease: 1 }],
  ["a pause without an end", "update build set status = 8, retry_at = null where name = 'b'", { readiness: 1 }],
])("%s is mended, and what rests on it ends", async (_, damage, expected) => {
  const id = await chain();
  await sql.raw(damage).execute(world.db);

  expect(await audit()).toEqual(expected);

  await sql`update build set status = 1, retry_at = null where status = 8`.execute(world.db);
  for (const name of ["b", "c"]) await succeed(world, await claimOne(world, name));
  expect(await evaluationState(world, id)).toBe("Completed");
});

test("a lease of a build that does not run is ended, and until then it stops nothing else", async () => {
  await chain();
  const build = await claimOne(world, "b");
  await sql`update build set status = 1 where name = 'b'`.execute(world.db);
  await evaluate(world, [node("other")]);
  expect([...(await claim(world)).keys()]).toEqual(["other"]);

  expect(await audit()).toEqual({ lease: 1 });

  expect(world.notified).toContain(`abort ${build.attemptId}`);
  expect([...(await claim(world)).keys()]).toEqual(["b"]);
});

test("an evaluation that nobody evaluates is queued again, and an attempt at one that is over ends", async () => {
  const lost = await startEvaluation(world);
  await sql`delete from attempt where id = ${lost.attemptId}`.execute(world.db);
  const over = await startEvaluation(world);
  await sql`update evaluation set status = 7, finished_at = now() where id = ${over.id}`.execute(world.db);

  expect(await audit()).toEqual({ evaluation: 1, attempt: 1 });

  expect(await evaluationState(world, lost.id)).toBe("Queued");
});

test("an output that no cache has any more is built again for what counts on it", async () => {
  await chain();
  await losePath(world.db, outputPathOf("a"));
  // Long ago, and nobody was there to act on it.
  await sql`update nar set damaged_at = now() - interval '1 day' where damaged_at is not null`.execute(world.db);

  expect(await audit()).toEqual({ output: 1 });

  expect(await buildStates(world)).toEqual({ a: "Queued", b: "Created", c: "Created" });
});

test("a build that waits for one that has ended, and will not begin by itself, gets it", async () => {
  const id = await chain();
  await sql`update build_output set available = false where store_path = ${outputPathOf("a")}`.execute(world.db);
  await sql`update build_edge set satisfied = false`.execute(world.db);
  await sql`update build set status = 0, pending_dependencies = 1 where name = 'b'`.execute(world.db);

  expect(await audit()).toEqual({ dependency: 1 });

  for (const name of ["a", "b", "c"]) await succeed(world, await claimOne(world, name));
  expect(await evaluationState(world, id)).toBe("Completed");
});

test("an audit beside work under way finds nothing and takes nothing away", async () => {
  const nodes = Array.from({ length: 40 }, (_, i) => node(`n${i}`, { needs: i < 10 ? [] : [`n${i % 10}`] }));
  const id = await evaluate(world, nodes);
  let going = true;
  const auditing = (async () => {
    const all: AuditFindings[] = [];
    while (going) all.push(await auditGraph(auditDeps(), forEver));
    return all;
  })();
  while ((await evaluationState(world, id)) === "Building") {
    await Promise.all([...(await claim(world, { limit: 4 })).values()].map((build) => succeed(world, build)));
  }
  going = false;

  for (const findings of await auditing) expect(findings).toEqual(NOTHING);
});

test("it is done again and again, and never where it is switched off", async () => {
  await chain();
  const damage = sql`update build set pending_dependencies = 7 where name = 'c'`;
  await damage.execute(world.db);
  await keepAuditing(auditDeps(), { intervalMs: 0, signal: AbortSignal.timeout(200) });
  await expect(checkInvariants(world.db)).rejects.toThrow("a counter differs");
  const stop = new AbortController();
  const auditing = keepAuditing(auditDeps(), { intervalMs: 10, signal: stop.signal });

  const isRight = () =>
    checkInvariants(world.db).then(
      () => true,
      () => false,
    );
  await expect.poll(isRight).toBe(true);
  await damage.execute(world.db);
  await expect.poll(isRight).toBe(true);

  stop.abort();
  await auditing;
});

test("sessions that ended long ago are removed, and no others", async () => {
  const userId = newId();
  const person = { id: userId, username: "ada", name: "Ada Lovelace", email: "ada@example.org", password_hash: null };
  await world.db.insertInto("user_account").values(person).execute();
  const [old, live] = [newId(), newId()];
  await sql`
    insert into session (id, user_id, expires_at)
    values (${live}, ${userId}, now() + interval '1 minute'),
      (${old}, ${userId}, now() - interval '31 days')`.execute(world.db);
  const connection = (id: string, closedDaysAgo: number | null) =>
    sql`
    insert into worker_connection (id, worker_id, organization_ids, description, disconnected_at)
    values (${id}, ${world.workerId}, '{}', '{}', now() - ${closedDaysAgo} * interval '1 day')`.execute(world.db);
  const [open, closed, gone] = [newId(), newId(), newId()];
  await connection(open, null);
  await connection(closed, 1);
  await connection(gone, 31);

  await pruneSessions(world.deps, forEver);

  const connections = await world.db.selectFrom("worker_connection").select("id").orderBy("id").execute();
  expect(connections.map((row) => row.id)).toEqual([open, closed].sort());
  expect(await world.db.selectFrom("session").select("id").execute()).toEqual([{ id: live }]);
});
