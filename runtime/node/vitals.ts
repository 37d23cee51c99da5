import { type Kysely, sql } from "kysely";
import type { Database } from "#core/db/schema.ts";
import type { SignsOfLife } from "#core/lib/service-manager.ts";
import type { Databases } from "./database.ts";

/**
 * What the service manager is told of a running server. Its check resolves when each pool of connections has answered.
 * That the database refuses or cannot be reached is an answer too: another process could do nothing about that. A pool
 * that never gives a connection back is none.
 */
export function vitalsOf(
  databases: Pick<Databases, "scheduler" | "web">,
  { url, connections }: { readonly url: string; readonly connections: () => number },
): SignsOfLife {
  let trouble: string | null = null;
  const ask = async (db: Kysely<Database>): Promise<string | null> => {
    try {
      await sql`select 1`.execute(db);
      return null;
    } catch (error) {
      return error instanceof Error ? error.message || error.name : String(error);
    }
  };
  return {
    check: async () => {
      const [scheduler, web] = await Promise.all([ask(databases.scheduler), ask(databases.web)]);
      trouble = scheduler ?? web;
    },
    describe: () => {
      if (trouble !== null) return `the database does not answer: ${trouble}`;
      const count = connections();
      return `serves at ${url}; ${count} ${count === 1 ? "worker is" : "workers are"} connected`;
    },
  };
}
