import { type Kysely, sql, type Transaction } from "kysely";
import type { BuildStatus } from "../domain/states.ts";
import { byteaArray } from "./bytea-array.ts";
import type { Database } from "./schema.ts";

/** A build as ingest sees it. */
export interface GraphBuild {
  readonly id: string;
  readonly drv_path: string;
  readonly status: BuildStatus;
  readonly deterministic_failure: boolean;
  readonly pruned_at: Date | null;
  readonly resolution: number;
}

/** A build that is to be recorded, in the state that the batch decided. */
export interface NewGraphBuild extends BuildStateChange {
  readonly drv_path: string;
  /** How many of its edges are not satisfied. */
  readonly pending_dependencies: number;
  readonly name: string;
  readonly system: string;
  readonly required_features: readonly string[];
  readonly prefer_local_build: boolean;
  readonly allow_substitutes: boolean;
  readonly fixed_output: boolean;
  readonly timeout_seconds: number | null;
  readonly max_silent_seconds: number | null;
  readonly resolution: number;
  /** 64 hexadecimal digits. */
  readonly realisation_hash: string | null;
}

/**
 * Batches of one organization are recorded one after the other until the transaction ends: two evaluations of the same
 * packages would wait for each other's rows anyway. Taken before any build is locked.
 */
export async function lockGraph(trx: Transaction<Database>, organizationId: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${`graph ${organizationId}`}, 0))`.execute(trx);
}

/** Another transaction recorded a build at the same time, and has committed: what was decided without it is void. */
export class ConcurrentInsertError extends Error {
  override readonly name = "ConcurrentInsertError";
  /** `serialization_failure`: the whole transaction runs again (`inTransaction`). */
  readonly code = "40001";
}

/** Inserts builds that the organization does not have. Throws `ConcurrentInsertError`: not under `lockGraph`. */
export async function insertBuilds(
  trx: Transaction<Database>,
  organizationId: string,
  builds: readonly NewGraphBuild[],
): Promise<void> {
  if (builds.length === 0) return;
  const { numAffectedRows } = await sql`
    insert into build (id, organization_id, drv_path, name, system, required_features, prefer_local_build,
      allow_substitutes, fixed_output, timeout_seconds, max_silent_seconds, status, pending_dependencies,
      deterministic_failure, ready_at, pruned_at, pruned_cache_id, resolution, realisation_hash)
    select r.id, ${organizationId}, r.drv_path, r.name, r.system, r.required_features, r.prefer_local_build,
      r.allow_substitutes, r.fixed_output, r.timeout_seconds, r.max_silent_seconds, r.status, r.pending_dependencies,
      r.deterministic_failure, case when r.status = 1 then gradient_now() end,
      case when r.pruned then gradient_now() end, r.pruned_cache_id, r.resolution, decode(r.realisation_hash, 'hex')
    from jsonb_to_recordset(${JSON.stringify(builds)}::jsonb) as r(id uuid, drv_path text, name text, system text,
      required_features text[], prefer_local_build boolean, allow_substitutes boolean, fixed_output boolean,
      timeout_seconds integer, max_silent_seconds integer, status smallint, pending_dependencies integer,
      deterministic_failure boolean, pruned boolean, pruned_cache_id uuid, resolution smallint, realisation_hash text)
    on conflict (organization_id, drv_path) do nothing`.execute(trx);
  if (Number(numAffectedRows) < builds.length)
    throw new ConcurrentInsertError("another evaluation reported it just now");
}

/**
 * Locks builds of an organization and returns them as they are once the locks are held. All that one transaction needs
 * is locked here at once: two passes, each in id order, could wait on another transaction's two passes in a ring.
 */
export async function lockBuildsByPath(
  trx: Transaction<Database>,
  organizationId: string,
  drvPaths: readonly string[],
): Promise<GraphBuild[]> {
  if (drvPaths.length === 0) return [];
  const rows = await trx
    .selectFrom("build")
    .select(["id", "drv_path", "status", "deterministic_failure", "pruned_at", "resolution"])
    .where("organization_id", "=", organizationId)
    .where("drv_path", "=", sql<string>`any(${drvPaths})`)
    .orderBy("id")
    .forNoKeyUpdate()
    .execute();
  return rows as GraphBuild[];
}

export interface BuildOutputState {
  readonly build_id: string;
  readonly name: string;
  readonly store_path: string | null;
  readonly available: boolean;
}

export async function listBuildOutputs(
  db: Kysely<Database>,
  buildIds: readonly string[],
): Promise<readonly BuildOutputState[]> {
  return await db
    .selectFrom("build_output")
    .select(["build_id", "name", "store_path", "available"])
    .where("build_id", "=", sql<string>`any(${buildIds})`)
    .execute();
}

/** What belongs to new builds: bytes, outputs, sources. */
export async function insertBuildParts(
  trx: Transaction<Database>,
  parts: {
    readonly derivations: readonly { readonly build_id: string; readonly aterm: Uint8Array }[];
    readonly outputs: readonly {
      readonly build_id: string;
      readonly name: string;
      readonly store_path: string | null;
      readonly available: boolean;
    }[];
    readonly sources: readonly { readonly build_id: string; readonly store_path: string }[];
  },
): Promise<void> {
  if (parts.derivations.length === 0) return;
  await sql`
    insert into build_derivation (build_id, aterm)
    select * from unnest(${parts.derivations.map((d) => d.build_id)}::uuid[],
      ${byteaArray(parts.derivations.map((d) => d.aterm))}::bytea[])`.execute(trx);
  await sql`
    insert into build_output (build_id, name, store_path, available)
    select * from unnest(${parts.outputs.map((o) => o.build_id)}::uuid[], ${parts.outputs.map((o) => o.name)}::text[],
      ${parts.outputs.map((o) => o.store_path)}::text[], ${parts.outputs.map((o) => o.available)}::boolean[])`.execute(
    trx,
  );
  await sql`
    insert into build_source (build_id, store_path)
    select * from unnest(${parts.sources.map((s) => s.build_id)}::uuid[],
      ${parts.sources.map((s) => s.store_path)}::text[])`.execute(trx);
}

export interface GraphEdge {
  readonly build_id: string;
  readonly dependency_id: string;
  readonly outputs: readonly string[];
  readonly satisfied: boolean;
}

/** Records edges. Those that exist stay as they are: only `settleEdgesAbove` moves them, with the counters. */
export async function insertEdges(trx: Transaction<Database>, edges: readonly GraphEdge[]): Promise<void> {
  if (edges.length === 0) return;
  // Names of outputs hold no white space, and `unnest` would take arrays of arrays apart.
  await sql`
    insert into build_edge (build_id, dependency_id, outputs, satisfied)
    select r.build_id, r.dependency_id, string_to_array(r.outputs, ' '), r.satisfied
    from unnest(${edges.map((e) => e.build_id)}::uuid[], ${edges.map((e) => e.dependency_id)}::uuid[],
      ${edges.map((e) => e.outputs.join(" "))}::text[], ${edges.map((e) => e.satisfied)}::boolean[])
      as r(build_id, dependency_id, outputs, satisfied)
    on conflict (build_id, dependency_id) do nothing`.execute(trx);
}

export interface BuildStateChange {
  readonly id: string;
  readonly status: BuildStatus;
  readonly deterministic_failure: boolean;
  /** The cache that had the outputs, for a build whose dependencies were not recorded. */
  readonly pruned_cache_id: string | null;
  readonly pruned: boolean;
}

/** Sets states that ingest decided for builds that were there; counters follow from the edges. The rows are locked. */
export async function updateBuildStates(
  trx: Transaction<Database>,
  changes: readonly BuildStateChange[],
): Promise<void> {
  if (changes.length === 0) return;
  await sql`
    update build set
      status = r.status,
      pending_dependencies = (select count(*) from build_edge e where e.build_id = r.id and not e.satisfied),
      deterministic_failure = r.deterministic_failure,
      transient_failures = 0,
      retry_at = null,
      ready_at = case when r.status = 1 then gradient_now() end,
      pruned_at = case when r.pruned then gradient_now() end,
      pruned_cache_id = r.pruned_cache_id,
      updated_at = gradient_now()
    from jsonb_to_recordset(${JSON.stringify(changes)}::jsonb) as r(id uuid, status smallint,
      deterministic_failure boolean, pruned_cache_id uuid, pruned boolean)
    where build.id = r.id`.execute(trx);
}

/** Returns the builds of which an output came or went. */
export async function setOutputsAvailable(
  trx: Transaction<Database>,
  outputs: readonly { readonly build_id: string; readonly name: string; readonly available: boolean }[],
): Promise<string[]> {
  if (outputs.length === 0) return [];
  const result = await sql<{ build_id: string }>`
    update build_output o set available = r.available
    from jsonb_to_recordset(${JSON.stringify(outputs)}::jsonb) as r(build_id uuid, name text, available boolean)
    where o.build_id = r.build_id and o.name = r.name and o.available <> r.available
    returning o.build_id`.execute(trx);
  return [...new Set(result.rows.map((row) => row.build_id))];
}

/**
 * Brings the edges above these builds in line with their outputs, and the counters of the builds that wait on them:
 * what became available is counted down, what was lost is counted up. Waiting builds that reach zero become ready, and
 * ready ones that lost an input wait again. Returns whether any build became ready.
 */
export async function settleEdgesAbove(trx: Transaction<Database>, dependencyIds: readonly string[]): Promise<boolean> {
  await sql`
    select id from build where id in (
      select build_id from build_edge where dependency_id = any(${dependencyIds}))
    order by id for no key update`.execute(trx);
  const result = await sql<{ ready: boolean }>`
    with fact as (
      select e.build_id, e.dependency_id, not exists (
        select from build_output o
        where o.build_id = e.dependency_id and o.name = any(e.outputs) and not o.available) as satisfied
      from build_edge e where e.dependency_id = any(${dependencyIds})
    ), moved as (
      update build_edge e set satisfied = fact.satisfied
      from fact
      where e.build_id = fact.build_id and e.dependency_id = fact.dependency_id and e.satisfied <> fact.satisfied
      returning e.build_id, e.satisfied
    ), delta as (
      select build_id, sum(case when satisfied then -1 else 1 end) as change from moved group by build_id
    )
    update build b set
      pending_dependencies = b.pending_dependencies + delta.change,
      status = case
        when b.status = 0 and b.pending_dependencies + delta.change = 0 then 1
        when b.status = 1 and b.pending_dependencies + delta.change > 0 then 0
        else b.status end,
      ready_at = case
        when b.status = 0 and b.pending_dependencies + delta.change = 0 then gradient_now()
        else b.ready_at end,
      updated_at = gradient_now()
    from delta where b.id = delta.build_id
    returning b.status = 1 as ready`.execute(trx);
  return result.rows.some(({ ready }) => ready);
}
