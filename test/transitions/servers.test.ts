import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { WorkerDescription } from "#core/db/schema.ts";
import { openWorkerConnection, shareOpenConnection } from "#core/db/worker-connections.ts";
import { reattachWorker } from "#core/services/transitions/leases.ts";
import {
  beatServer,
  drainServer,
  joinServers,
  leaveServers,
  type ServerDeps,
} from "#core/services/transitions/servers.ts";
import { newId } from "../support/rows.ts";
import { node } from "./nodes.ts";
import { buildStates, claimOne, evaluate, passTime, provenWorker, type World, withWorld } from "./support.ts";

let world: World;
beforeEach(async () => {
  world = await withWorld();
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

const STORAGE = "the folder that all know";

function server(storage: string | null = STORAGE): ServerDeps {
  return { ...world.deps, server: { id: newId(), storage } };
}

async function openSession({ server: { id: serverId } }: ServerDeps): Promise<string> {
  const id = newId();
  const description = {} as WorkerDescription;
  await openWorkerConnection(world.db, { id, serverId, ...provenWorker(world), description });
  return id;
}

async function isOpen(sessionId: string): Promise<boolean> {
  return await world.db.transaction().execute((trx) => shareOpenConnection(trx, sessionId));
}

/** The database's clock goes on for everybody but those who beat meanwhile. */
async function pass(seconds: number, ...servers: readonly ServerDeps[]): Promise<void> {
  const ids = servers.map(({ server: { id } }) => id);
  await sql`
    update server set last_seen_at = last_seen_at - ${seconds} * interval '1 second'
    where id <> all(${ids}::uuid[])`.execute(world.db);
  await sql`update server set steady_since = steady_since - ${seconds} * interval '1 second'`.execute(world.db);
}

async function leaseSecondsLeft(): Promise<number> {
  const { rows } = await sql<{ left: number }>`
    select extract(epoch from lease_expires_at - gradient_now())::float as left from attempt
    where kind = 1`.execute(world.db);
  return rows[0]?.left ?? Number.NaN;
}

test("a server that is silent loses its sessions, and those of the others go on", async () => {
  const [dead, living] = [server(), server()];
  await joinServers(dead);
  await joinServers(living);
  const lost = await openSession(dead);
  await pass(29, living);
  await beatServer(living);
  expect(await isOpen(lost)).toBe(true);
  world = { ...world, workerId: newId() };
  const kept = await openSession(living);

  await pass(2, living);
  await beatServer(living);

  expect(await isOpen(lost)).toBe(false);
  expect(await isOpen(kept)).toBe(true);
});

test("a server that was given up by mistake is one of them again with its next beat", async () => {
  const [slow, other] = [server(), server()];
  await joinServers(slow);
  await joinServers(other);
  await pass(31, other);
  await beatServer(other);

  await beatServer(slow);

  expect(await world.db.selectFrom("server").select("id").execute()).toHaveLength(2);
});

test("nothing is reaped for one lease time after the start of the only server", async () => {
  const only = server();
  await joinServers(only);
  expect(await beatServer(only)).toBe(false);
  await pass(59, only);
  expect(await beatServer(only)).toBe(false);

  await pass(2, only);

  expect(await beatServer(only)).toBe(true);
});

test("a server that joins another one may reap at once: workers could be heard there", async () => {
  const [old, young] = [server(), server()];
  await joinServers(old);
  await pass(61, old);

  await joinServers(young);
  expect(await beatServer(young)).toBe(true);

  // One that stops takes no workers, and says nothing of those that look for another.
  await drainServer(old);
  expect(await beatServer(young)).toBe(false);
});

test("after a pause of the database nobody reaps before workers had their time to be heard again", async () => {
  const [one, other] = [server(), server()];
  await joinServers(one);
  await joinServers(other);
  await pass(100, one, other);
  expect(await beatServer(one)).toBe(true);

  await pass(31);
  expect(await beatServer(one)).toBe(false);
  expect(await beatServer(other)).toBe(false);

  await pass(61, one, other);
  expect(await beatServer(other)).toBe(true);
});

test("a step of the database's clock back or forth reaps nothing", async () => {
  const only = server();
  await joinServers(only);
  await pass(100, only);
  expect(await beatServer(only)).toBe(true);

  await sql`update server set last_seen_at = last_seen_at + interval '1 hour'`.execute(world.db);

  expect(await beatServer(only)).toBe(false);
});

test("the first server prolongs the leases that nobody could prolong, and a second one leaves them", async () => {
  await evaluate(world, [node("a")]);
  const { attemptId } = await claimOne(world, "a");
  await passTime(world, [attemptId]);
  await joinServers(server());
  expect(await leaseSecondsLeft()).toBeGreaterThan(50);

  await passTime(world, [attemptId]);
  await joinServers(server());

  expect(await leaseSecondsLeft()).toBeLessThan(0);
});

test("a server with another storage is refused, in words", async () => {
  await joinServers(server());

  await expect(joinServers(server("another folder"))).rejects.toThrow(
    /keeps its NARs in the folder that all know, and this one in another folder: all servers .* must share one storage/,
  );
});

test("where files are its own a server is alone: what a killed one left ends at once", async () => {
  const killed = server(null);
  await joinServers(killed);
  const session = await openSession(killed);

  await joinServers(server(null));

  expect(await isOpen(session)).toBe(false);
  expect(await world.db.selectFrom("server").select("id").execute()).toHaveLength(1);
});

test("a server that leaves takes its sessions along", async () => {
  const leaving = server();
  await joinServers(leaving);
  const session = await openSession(leaving);

  await leaveServers(leaving);

  expect(await isOpen(session)).toBe(false);
});

test("a session that a newer one has replaced takes no leases away, however late it comes", async () => {
  const [one, other] = [server(), server()];
  await joinServers(one);
  await joinServers(other);
  const older = await openSession(one);
  await openSession(other);
  await evaluate(world, [node("a")]);
  await claimOne(world, "a");

  await expect(reattachWorker(world.deps, provenWorker(world), [], older)).rejects.toThrow("a newer session");

  expect(await buildStates(world)).toEqual({ a: "Building" });
});
