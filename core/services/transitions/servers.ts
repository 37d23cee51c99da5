import type { Transaction } from "kysely";
import { extendAllLeases } from "../../db/leases.ts";
import type { Database } from "../../db/schema.ts";
import {
  beat,
  couldHear,
  forgetServers,
  listOtherServers,
  lockServersToJoin,
  markServerDraining,
  removeServer,
  type ServerIdentity,
} from "../../db/servers.ts";
import { inTransaction } from "../../db/transaction.ts";
import { DomainError } from "../../errors.ts";
import type { TransitionDeps } from "./deps.ts";

export interface ServerDeps extends TransitionDeps {
  /** This process among those that share the database. */
  readonly server: ServerIdentity;
}

/**
 * To be called once at a start, before anything else. Sessions of servers that are gone end here. Where no other server
 * lives, no worker could be heard for a while: no lease ends before one whole lease time from now. Throws `conflict`,
 * with words for the operator, when another server keeps its NARs elsewhere.
 */
export async function joinServers(deps: ServerDeps): Promise<void> {
  const { server, leaseMs } = deps;
  const join = async (trx: Transaction<Database>): Promise<void> => {
    await lockServersToJoin(trx);
    // With files of its own nobody else may run, and the runtime has seen to that: a row that looks alive was killed.
    await forgetServers(trx, server.id, { all: server.storage === null });
    const others = await listOtherServers(trx, server.id);
    const elsewhere = others.find(({ storage }) => storage !== server.storage);
    if (elsewhere) {
      const there = elsewhere.storage ?? "a folder of its own";
      throw new DomainError(
        "conflict",
        `another server on this database keeps its NARs in ${there}, and this one in ${server.storage}: ` +
          "all servers of a database must share one storage",
      );
    }
    await beat(trx, server, leaseMs);
    if (others.length === 0) await extendAllLeases(trx, leaseMs);
  };
  await inTransaction(deps.db, join, deps);
}

/**
 * To be called every few seconds. Answers whether leases may be reaped now: only when some server could have heard
 * every worker for one whole lease time. Sessions of servers that are silent end here.
 */
export async function beatServer(deps: ServerDeps): Promise<boolean> {
  await beat(deps.db, deps.server, deps.leaseMs);
  const forget = (trx: Transaction<Database>) => forgetServers(trx, deps.server.id, { all: false });
  const gone = await inTransaction(deps.db, forget, deps);
  if (gone > 0) deps.log.warn("servers are gone, and their sessions have ended", { count: gone });
  return await couldHear(deps.db, deps.leaseMs);
}

/** It takes no more sessions: from now on nobody counts on it to hear workers. */
export async function drainServer({ db, server }: ServerDeps): Promise<void> {
  await markServerDraining(db, server.id);
}

/** To be called at the end: others need not wait to see that this server is gone. */
export async function leaveServers(deps: ServerDeps): Promise<void> {
  await inTransaction(deps.db, (trx) => removeServer(trx, deps.server.id), deps);
}
