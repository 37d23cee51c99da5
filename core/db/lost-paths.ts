import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

export interface LostPath {
  /** Base name. */
  readonly store_path: string;
  /** When it was lost last, exactly. */
  readonly since: string;
}

/** Paths that caches held no more lately while builds count on them, those first that are longest lost. */
export async function listLostPaths(db: Kysely<Database>, limit: number): Promise<LostPath[]> {
  const { rows } = await sql<LostPath>`
    select store_path, since::text as since from lost_path order by lost_path.since limit ${limit}`.execute(db);
  return rows;
}

/** They were looked at. What was lost once more since then stays. */
export async function deleteLostPaths(db: Kysely<Database>, paths: readonly LostPath[]): Promise<void> {
  await sql`
    delete from lost_path l
    using unnest(
      ${paths.map(({ store_path }) => store_path)}::text[], ${paths.map(({ since }) => since)}::timestamptz[]
    ) as seen (store_path, since)
    where l.store_path = seen.store_path and l.since = seen.since`.execute(db);
}
