import { type Kysely, sql, type Transaction } from "kysely";
import { byteaArray } from "./bytea-array.ts";
import type { Database } from "./schema.ts";

/** `build.resolution`. */
export const Resolution = { none: 0, wanted: 1, done: 2 } as const;
export type Resolution = (typeof Resolution)[keyof typeof Resolution];

/**
 * Ready builds that have to be resolved, the oldest first: as many as have `bytesMax` of derivations together, one at
 * least. Not locked.
 */
export async function listUnresolved(
  db: Kysely<Database>,
  { limit, bytesMax }: { readonly limit: number; readonly bytesMax: number },
): Promise<string[]> {
  const result = await sql<{ id: string; before: number }>`
    select b.id, coalesce(sum(octet_length(d.aterm)) over (
      order by b.id rows between unbounded preceding and 1 preceding), 0)::float8 as before
    from (select id from build where status = 1 and resolution = 1 order by id limit ${limit}) b
    join build_derivation d on d.build_id = b.id order by b.id`.execute(db);
  return result.rows.filter(({ before }) => before < bytesMax).map(({ id }) => id);
}

export interface UnresolvedBuild {
  readonly id: string;
  readonly organization_id: string;
  readonly drv_path: string;
  /** 64 hexadecimal digits. */
  readonly realisation_hash: string | null;
  readonly aterm: Uint8Array;
  readonly outputs: readonly { readonly name: string; readonly store_path: string | null }[];
  /** What it needs: a derivation's output, and where that is. Base names. */
  readonly needs: readonly { readonly drv_path: string; readonly output: string; readonly store_path: string | null }[];
}

/** Locks these builds and what rests on them, in id order, and reads those that still have to be resolved. */
export async function lockUnresolved(
  trx: Transaction<Database>,
  buildIds: readonly string[],
): Promise<UnresolvedBuild[]> {
  await sql`
    select id from build
    where id = any(${buildIds}::uuid[])
      or id in (select build_id from build_edge where dependency_id = any(${buildIds}::uuid[]))
    order by id for no key update`.execute(trx);
  const result = await sql<UnresolvedBuild>`
    select b.id, b.organization_id, b.drv_path, encode(b.realisation_hash, 'hex') as realisation_hash, d.aterm,
      (select jsonb_agg(jsonb_build_object('name', o.name, 'store_path', o.store_path))
        from build_output o where o.build_id = b.id) as outputs,
      coalesce((
        select jsonb_agg(jsonb_build_object('drv_path', n.drv_path, 'output', o.name, 'store_path', o.store_path))
        from build_edge e join build n on n.id = e.dependency_id
        join build_output o on o.build_id = e.dependency_id and o.name = any(e.outputs)
        where e.build_id = b.id), '[]') as needs
    from build b join build_derivation d on d.build_id = b.id
    where b.id = any(${buildIds}::uuid[]) and b.status = 1 and b.resolution = 1
    order by b.id`.execute(trx);
  return result.rows;
}

export interface NewResolution {
  readonly build_id: string;
  /** Base name. */
  readonly drv_path: string;
  readonly realisation_hash: Uint8Array | null;
  readonly aterm: Uint8Array;
}

/** The builds are locked; from now on they may be given out. */
export async function recordResolutions(
  trx: Transaction<Database>,
  resolutions: readonly NewResolution[],
): Promise<void> {
  if (resolutions.length === 0) return;
  await sql`
    insert into build_resolution (build_id, drv_path, realisation_hash, aterm)
    select * from unnest(${resolutions.map((r) => r.build_id)}::uuid[], ${resolutions.map((r) => r.drv_path)}::text[],
      ${resolutions.map((r) => r.realisation_hash)}::bytea[], ${byteaArray(resolutions.map((r) => r.aterm))}::bytea[])
    on conflict (build_id) do update set drv_path = excluded.drv_path,
      realisation_hash = excluded.realisation_hash, aterm = excluded.aterm`.execute(trx);
  await sql`
    update build set resolution = ${Resolution.done}, updated_at = gradient_now()
    where id = any(${resolutions.map((r) => r.build_id)}::uuid[])`.execute(trx);
}

export interface OutputPlace {
  readonly build_id: string;
  readonly name: string;
  /** Base name. */
  readonly store_path: string;
}

/**
 * Says where outputs are. What was resolved with another place of them is to be resolved anew; what rests on the builds
 * is locked with them.
 */
export async function setOutputPlaces(trx: Transaction<Database>, places: readonly OutputPlace[]): Promise<void> {
  if (places.length === 0) return;
  await sql`
    with moved as (
      update build_output o set store_path = r.store_path
      from jsonb_to_recordset(${JSON.stringify(places)}::jsonb) as r(build_id uuid, name text, store_path text)
      where o.build_id = r.build_id and o.name = r.name and o.store_path is distinct from r.store_path
      returning o.build_id, o.name
    )
    update build b set resolution = ${Resolution.wanted}
    from build_edge e join moved on moved.build_id = e.dependency_id and moved.name = any(e.outputs)
    where b.id = e.build_id and b.resolution = ${Resolution.done}`.execute(trx);
}

export interface ResolvedBuild {
  readonly build_id: string;
  readonly organization_id: string;
  /** As it was evaluated; base name. */
  readonly drv_path: string;
  /** 64 hexadecimal digits each; null where it is not known, and of the resolved one where its outputs have paths. */
  readonly realisation_hash: string | null;
  readonly resolved_hash: string | null;
  readonly outputs: readonly { readonly name: string; readonly store_path: string | null }[];
}

/** Those of these builds that were resolved, as they stand. */
export async function listResolved(db: Kysely<Database>, buildIds: readonly string[]): Promise<ResolvedBuild[]> {
  const result = await sql<ResolvedBuild>`
    select b.id as build_id, b.organization_id, b.drv_path, encode(b.realisation_hash, 'hex') as realisation_hash,
      encode(r.realisation_hash, 'hex') as resolved_hash,
      (select jsonb_agg(jsonb_build_object('name', o.name, 'store_path', o.store_path))
        from build_output o where o.build_id = b.id) as outputs
    from build b join build_resolution r on r.build_id = b.id
    where b.id = any(${buildIds}::uuid[])`.execute(db);
  return result.rows;
}

/** What the workers of these builds were given to build, where the outputs have no paths before. */
export async function listFloatingDerivations(
  db: Kysely<Database>,
  buildIds: readonly string[],
): Promise<{ readonly build_id: string; readonly drv_path: string; readonly aterm: Uint8Array }[]> {
  return await db
    .selectFrom("build_resolution")
    .select(["build_id", "drv_path", "aterm"])
    .where("build_id", "=", sql<string>`any(${buildIds}::uuid[])`)
    .where("realisation_hash", "is not", null)
    .execute();
}

/** Of builds whose derivation a later evaluation reported: what was not known of them before. */
export async function completeBuilds(
  trx: Transaction<Database>,
  builds: readonly { readonly id: string; readonly realisation_hash: string | null; readonly resolution: number }[],
): Promise<void> {
  if (builds.length === 0) return;
  await sql`
    update build b set
      realisation_hash = coalesce(b.realisation_hash, decode(r.realisation_hash, 'hex')),
      resolution = greatest(b.resolution, r.resolution)
    from jsonb_to_recordset(${JSON.stringify(builds)}::jsonb) as r(id uuid, realisation_hash text, resolution smallint)
    where b.id = r.id and (b.resolution < r.resolution
      or (b.realisation_hash is null and r.realisation_hash is not null))`.execute(trx);
}
