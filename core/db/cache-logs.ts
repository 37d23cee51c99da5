import { type Kysely, sql } from "kysely";
import { AttemptOutcome } from "../domain/states.ts";
import type { Database } from "./schema.ts";

export interface CacheLogRow {
  readonly attempt_id: string;
  readonly organization_id: string;
  readonly organization_public: boolean;
  readonly log_bytes: number;
}

/**
 * The newest successful attempts of a derivation, or of what was resolved to it, one an organization, where a cache has
 * an output of it: of the organizations that are public or that the user is a member of. What the actor may do there is
 * not looked at.
 */
export async function listCacheLogs(
  db: Kysely<Database>,
  {
    cacheId,
    derivation,
    userId,
    limit,
  }: { readonly cacheId: string; readonly derivation: string; readonly userId: string | null; readonly limit: number },
): Promise<CacheLogRow[]> {
  const { rows } = await sql<CacheLogRow>`
    select newest.id as attempt_id, organization.id as organization_id, organization.public as organization_public,
      newest.log_bytes
    from organization
    cross join lateral (
      select id from build where organization_id = organization.id and drv_path = ${derivation}
      union
      select own.id from build_resolution resolved join build own on own.id = resolved.build_id
      where own.organization_id = organization.id and resolved.drv_path = ${derivation}
    ) build
    cross join lateral (
      select id, log_bytes, finished_at from attempt
      where attempt.build_id = build.id and attempt.outcome = ${AttemptOutcome.Built}
      order by assigned_at desc limit 1
    ) newest
    where (organization.public or exists (
        select from organization_member member
        where member.organization_id = organization.id and member.user_id = ${userId}::uuid))
      and exists (
        select from build_output output
        join cache_path path on path.cache_id = ${cacheId}::uuid and path.hash = left(output.store_path, 32)
          and path.store_path = output.store_path
        where output.build_id = build.id)
    order by newest.finished_at desc, newest.id
    limit ${limit}`.execute(db);
  return rows;
}
