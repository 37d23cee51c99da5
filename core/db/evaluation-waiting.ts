import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** Evaluations that waited for a cache, and whose organization writes to one by now, are queued. Returns which. */
export async function queueEvaluationsWithCache(
  db: Kysely<Database>,
): Promise<readonly { readonly id: string; readonly organization_id: string }[]> {
  const queued = await sql<{ id: string; organization_id: string }>`
    update evaluation e set status = 0, waiting_reason = null, updated_at = gradient_now()
    where e.status = 4 and e.waiting_reason ->> 'kind' = 'no_cache' and exists (
      select from organization_cache s join cache c on c.id = s.cache_id
      where s.organization_id = e.organization_id and s.mode in (0, 2) and c.active and c.kind = 0)
    returning e.id, e.organization_id`.execute(db);
  return queued.rows;
}
