import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface LostInput {
  readonly build_id: string;
  readonly name: string;
  /** Base name. */
  readonly store_path: string;
}

/**
 * Outputs of the organization's builds under these paths (base names) that are gone, without those that rest on
 * `buildId`: nothing waits for what waits for it.
 */
export async function listLostInputs(
  db: Kysely<Database>,
  buildId: string,
  storePaths: readonly string[],
): Promise<LostInput[]> {
  const result = await sql<LostInput>`
    with recursive above as (
      select ${buildId}::uuid as id
      union
      select e.build_id from above a cross join lateral (
        select build_id from build_edge where dependency_id = a.id offset 0) e
    )
    select o.build_id, o.name, o.store_path
    from build_output o join build d on d.id = o.build_id join build b on b.id = ${buildId}
    where o.store_path = any(${storePaths}::text[]) and not o.available and d.organization_id = b.organization_id
      and d.id not in (select id from above)`.execute(db);
  return result.rows;
}

/** The build waits for these outputs too. The caller has locked it, and recounts it afterwards. */
export async function addNeeds(
  trx: Transaction<Database>,
  buildId: string,
  inputs: readonly LostInput[],
): Promise<void> {
  await sql`
    insert into build_edge (build_id, dependency_id, outputs, satisfied)
    select ${buildId}, r.build_id, array_agg(distinct r.name), false
    from jsonb_to_recordset(${JSON.stringify(inputs)}::jsonb) as r(build_id uuid, name text)
    group by r.build_id
    on conflict (build_id, dependency_id) do update set outputs =
      array(select distinct unnest(build_edge.outputs || excluded.outputs))`.execute(trx);
}

/** The paths (base names) that this build is given: outputs of what it needs. */
export async function listInputPaths(db: Kysely<Database>, buildId: string): Promise<string[]> {
  const result = await sql<{ store_path: string }>`
    select distinct o.store_path
    from build_edge e join build_output o on o.build_id = e.dependency_id and o.name = any(e.outputs)
    where e.build_id = ${buildId} and o.store_path is not null`.execute(db);
  return result.rows.map((row) => row.store_path);
}

export interface StoredReference {
  readonly cache_id: string;
  readonly hash: string;
  readonly store_path: string;
  readonly references: string[];
}

/** What these stores hold of these paths (base names), with what each refers to. */
export async function listStoredReferences(
  db: Kysely<Database>,
  cacheIds: readonly string[],
  storePaths: readonly string[],
): Promise<StoredReference[]> {
  const result = await sql<StoredReference>`
    select cache_id, hash, store_path, "references" from cache_path
    where cache_id = any(${cacheIds}::uuid[])
      and hash = any(select left(path, 32) from unnest(${storePaths}::text[]) as path)
      and store_path = any(${storePaths}::text[])`.execute(db);
  return result.rows;
}

/** Takes paths out of their caches. Their NARs stay where they are. */
export async function withdrawPaths(
  trx: Transaction<Database>,
  paths: readonly Pick<StoredReference, "cache_id" | "hash">[],
): Promise<void> {
  await sql`
    delete from cache_path p using (
      select c.cache_id, c.hash
      from cache_path c join jsonb_to_recordset(${JSON.stringify(paths)}::jsonb) as r(cache_id uuid, hash text)
        on c.cache_id = r.cache_id and c.hash = r.hash
      order by c.cache_id, c.hash for update of c
    ) held
    where p.cache_id = held.cache_id and p.hash = held.hash`.execute(trx);
}
