import { type Kysely, type RawBuilder, type SqlBool, sql } from "kysely";
import type { Database } from "./schema.ts";

/** The cache whose paths are looked at. */
export interface RootScope {
  readonly cacheId: string;
  /** Those that the cache is for: what others build keeps nothing in it. */
  readonly organizationIds: readonly string[];
  /** Those of them that own the cache or are subscribed to it: both sides agreed. The others may only read it. */
  readonly agreedOrganizationIds: readonly string[];
  /** The cache itself, and those whose paths may refer to paths that only this one holds. */
  readonly referringCacheIds: readonly string[];
}

/** Paths (base names) that stay with everything they refer to, each with what makes it stay. */
export interface RootSource {
  readonly kind: string;
  /**
   * A query with the columns `store_path` and `label`, a plain join without grouping: it is asked for one path as well
   * as for all, and each time by the path.
   */
  readonly relation: (scope: RootScope) => RawBuilder<unknown>;
}

/**
 * Everything that makes a path stay, beside its use. Whoever has another reason adds it here; who writes it down must
 * hold the path's row in that transaction (`holdPresentPaths`), or a sweep at that moment misses it.
 */
export const ROOT_SOURCES: readonly RootSource[] = [
  {
    // Evaluations that are not kept have no links any more.
    kind: "evaluation",
    relation: ({ organizationIds }) => sql`
      select o.store_path, l.evaluation_id::text as label
      from build_output o
      join evaluation_build l on l.build_id = o.build_id
      join evaluation e on e.id = l.evaluation_id
      where e.organization_id = any(${organizationIds}::uuid[])`,
  },
  {
    kind: "open_build",
    relation: ({ organizationIds }) => sql`
      select o.store_path, b.id::text as label
      from build_output o
      join build_edge d on d.dependency_id = o.build_id
      join build b on b.id = d.build_id
      where b.status in (0, 1, 2, 8) and b.organization_id = any(${organizationIds}::uuid[])`,
  },
  {
    // A failed build may be started again while an evaluation shows it.
    kind: "build_source",
    relation: ({ organizationIds }) => sql`
      select s.store_path, b.id::text as label
      from build_source s join build b on b.id = s.build_id
      where b.organization_id = any(${organizationIds}::uuid[]) and (b.status in (0, 1, 2, 8)
        or (b.status not in (3, 7) and exists (select from evaluation_build l where l.build_id = b.id)))`,
  },
  {
    kind: "evaluation_source",
    relation: ({ organizationIds }) => sql`
      select right(s.path, -11) as store_path, e.id::text as label
      from evaluation e cross join lateral jsonb_array_elements_text(e.source -> 'paths') s (path)
      where e.status in (0, 1, 2, 3, 4, 8) and e.source is not null
        and e.organization_id = any(${organizationIds}::uuid[])`,
  },
  {
    kind: "pin",
    relation: ({ cacheId }) => sql`
      select r.store_path, p.name as label
      from cache_pin_revision r join cache_pin p on p.id = r.pin_id
      where r.cache_id = ${cacheId}`,
  },
  {
    // What it runs, was started from, is about to get, and could go back to. A host may say what it likes: whoever only
    // reads the cache keeps nothing in it but what its own builds came to.
    kind: "host",
    relation: ({ organizationIds, agreedOrganizationIds }) => sql`
      select s.store_path, h.name as label
      from host_path s join host h on h.id = s.host_id join project p on p.id = h.project_id
      where h.kept_until > gradient_now() and p.organization_id = any(${organizationIds}::uuid[])
        and (p.organization_id = any(${agreedOrganizationIds}::uuid[]) or exists (
          select from build_output o join build b on b.id = o.build_id
          where o.store_path = s.store_path and b.organization_id = p.organization_id))`,
  },
];

/** Whether something makes this path (a column with base names) stay. */
export function isRoot(scope: RootScope, storePath: RawBuilder<unknown>): RawBuilder<SqlBool> {
  const each = ROOT_SOURCES.map((source) => isRootOf(source, scope, storePath));
  return sql<SqlBool>`(${sql.join(each, sql` or `)})`;
}

export function isRootOf(source: RootSource, scope: RootScope, storePath: RawBuilder<unknown>): RawBuilder<SqlBool> {
  return sql<SqlBool>`exists (select from (${source.relation(scope)}) r where r.store_path = ${storePath})`;
}

/** Caches that have the cache as an upstream, and organizations that own one of all these, write to it or read it. */
export async function readRootScope(db: Kysely<Database>, cacheId: string): Promise<RootScope> {
  const { rows } = await sql<{ organizations: string[]; agreed: string[]; caches: string[] }>`
    with named as (
      select ${cacheId}::uuid as id
      union
      select cache_id from cache_upstream where upstream_cache_id = ${cacheId}
    ), agreed as (
      select organization_id as id from organization_cache where cache_id = ${cacheId}
      union
      select organization_id from cache where id = ${cacheId} and organization_id is not null
    ), organizations as (
      select organization_id as id from organization_cache where cache_id in (select id from named)
      union
      select id from agreed
    )
    select array(select id from organizations) as organizations, array(select id from agreed) as agreed, array(
      select id from named
      union
      select id from cache where kind = 1 and organization_id in (select id from organizations)
    ) as caches`.execute(db);
  const [row] = rows;
  return {
    cacheId,
    organizationIds: row?.organizations ?? [],
    agreedOrganizationIds: row?.agreed ?? [],
    referringCacheIds: row?.caches ?? [cacheId],
  };
}

/** Whether another path refers to the row `p` of `cache_path`. */
export function hasReferrer({ referringCacheIds }: RootScope): RawBuilder<SqlBool> {
  return sql<SqlBool>`exists (
    select from cache_path r
    where r."references" @> array[p.store_path] and r.cache_id = any(${referringCacheIds}::uuid[])
      and r.hash <> p.hash)`;
}

export interface FoundRoot {
  readonly kind: string;
  /** The id of an evaluation or a build, or the name of a pin or a host. */
  readonly label: string;
  /** Base name. */
  readonly store_path: string;
}

/** What makes these paths (base names) stay: one reason of each kind. */
export async function findRoots(
  db: Kysely<Database>,
  scope: RootScope,
  storePaths: readonly string[],
): Promise<FoundRoot[]> {
  const each = ROOT_SOURCES.map(
    ({ kind, relation }) => sql`
      (select ${kind} as kind, r.label, r.store_path from (${relation(scope)}) r
      where r.store_path = any(${storePaths}::text[]) order by r.label desc limit 1)`,
  );
  return (await sql<FoundRoot>`${sql.join(each, sql` union all `)}`.execute(db)).rows;
}
