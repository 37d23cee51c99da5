import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

export const REQUEST_PROJECT = "build-request";

/** The organization's project for build requests, made where it is not there yet. */
export async function ensureRequestProject(
  db: Kysely<Database>,
  {
    id,
    organizationId,
    createdBy,
  }: {
    /** Of the project, should it be made. */
    readonly id: string;
    readonly organizationId: string;
    readonly createdBy: string;
  },
): Promise<{ readonly id: string }> {
  const found = () =>
    db
      .selectFrom("project")
      .select("id")
      .where("organization_id", "=", organizationId)
      .where("name", "=", REQUEST_PROJECT)
      .executeTakeFirst();
  const present = await found();
  if (present) return present;
  await sql`
    insert into project (id, organization_id, name, display_name, description, repository, wildcard, concurrency,
      managed, created_by)
    values (${id}, ${organizationId}, ${REQUEST_PROJECT}, 'Build Requests',
      'Sources that people sent to have them built', '', '*', 2, true, ${createdBy})
    on conflict (organization_id, name) do nothing`.execute(db);
  return (await found()) ?? { id };
}

/** The first of the caches that the organization's builds come into. */
export async function findWritableCacheName(db: Kysely<Database>, organizationId: string): Promise<string | null> {
  const row = await db
    .selectFrom("organization_cache")
    .innerJoin("cache", "cache.id", "organization_cache.cache_id")
    .select("cache.name")
    .where("organization_cache.organization_id", "=", organizationId)
    .where("organization_cache.mode", "in", [0, 2])
    .where("cache.active", "=", true)
    .where("cache.kind", "=", 0)
    .orderBy("cache.priority")
    .orderBy("cache.name")
    .limit(1)
    .executeTakeFirst();
  return row?.name ?? null;
}
