import type { Kysely, KyselyPlugin } from "kysely";
import type { Database } from "#core/db/schema.ts";

/** The same database, and how often it was asked by this way. */
export function countedQueries(db: Kysely<Database>): { readonly db: Kysely<Database>; readonly count: () => number } {
  let queries = 0;
  const plugin: KyselyPlugin = {
    transformQuery({ node }) {
      queries++;
      return node;
    },
    transformResult: async ({ result }) => result,
  };
  return { db: db.withPlugin(plugin), count: () => queries };
}
