import type { Kysely } from "kysely";
import { Migrator } from "kysely/migration";
import type { Database } from "#core/db/schema.ts";
import { migrationProvider } from "#migrations/index.ts";

/**
 * Brings the schema up to date and answers the names of what was applied. Servers that start at the same time wait for
 * each other: the migrator works in one transaction under an advisory lock.
 */
export async function migrate(db: Kysely<Database>): Promise<string[]> {
  const { error, results = [] } = await new Migrator({ db, provider: migrationProvider }).migrateToLatest();
  const failed = results.find(({ status }) => status === "Error");
  if (error !== undefined) {
    const detail = error instanceof Error ? error.message : String(error);
    const at = failed ? ` at ${failed.migrationName}` : "";
    throw new Error(`the database could not be migrated${at}: ${detail}. Nothing was changed`, { cause: error });
  }
  return results.map(({ migrationName }) => migrationName);
}
