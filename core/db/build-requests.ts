import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import { SOURCE_FILE_KINDS, type SourceFile } from "../domain/source-tree.ts";
import { toHex } from "../lib/bytes.ts";
import { chunksOf } from "../lib/chunks.ts";
import type { Database } from "./schema.ts";
import type { BuildRequestTable } from "./tables/build-requests.ts";

export type BuildRequestRow = Selectable<BuildRequestTable> & { readonly expired: boolean };

const CHUNK = 5_000;

export interface NewBuildRequest {
  readonly id: string;
  readonly organizationId: string;
  readonly userId: string;
  readonly lifetimeMs: number;
  readonly files: readonly SourceFile[];
}

/** The request with its files; contents that are there already are kept for it. */
export async function insertBuildRequest(trx: Transaction<Database>, request: NewBuildRequest): Promise<void> {
  const { id, organizationId, userId, lifetimeMs, files } = request;
  await sql`
    insert into build_request (id, organization_id, user_id, expires_at)
    values (${id}, ${organizationId}, ${userId}, gradient_now() + ${lifetimeMs}::float8 * interval '1 millisecond')
  `.execute(trx);
  for (const chunk of chunksOf(files, CHUNK)) {
    await sql`
      insert into build_request_file (request_id, path, hash, size, kind)
      select ${id}, * from unnest(${chunk.map(({ path }) => path)}::text[],
        array(select decode(hex, 'hex') from unnest(${chunk.map(({ hash }) => toHex(hash))}::text[])
          with ordinality as h(hex, place) order by place),
        ${chunk.map(({ size }) => size)}::bigint[],
        ${chunk.map(({ kind }) => SOURCE_FILE_KINDS.indexOf(kind))}::smallint[])`.execute(trx);
  }
  await sql`
    with used as (
      select organization_id, hash from source_blob
      where organization_id = ${organizationId} and hash in (
        select hash from build_request_file where request_id = ${id})
      order by hash for no key update
    )
    update source_blob b set last_used_at = gradient_now()
    from used u where b.organization_id = u.organization_id and b.hash = u.hash`.execute(trx);
}

export async function findBuildRequest(db: Kysely<Database>, id: string): Promise<BuildRequestRow | undefined> {
  return await db
    .selectFrom("build_request")
    .selectAll()
    .select(sql<boolean>`expires_at <= gradient_now()`.as("expired"))
    .where("id", "=", id)
    .executeTakeFirst();
}

/** False when it was dispatched already. */
export async function markDispatched(trx: Transaction<Database>, id: string, evaluationId: string): Promise<boolean> {
  const { numUpdatedRows } = await trx
    .updateTable("build_request")
    .set({ dispatched_at: sql<Date>`gradient_now()`, evaluation_id: evaluationId })
    .where("id", "=", id)
    .where("dispatched_at", "is", null)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** Hashes of the request whose contents are not there, each once, in order. */
export async function listMissingBlobs(db: Kysely<Database>, requestId: string): Promise<Uint8Array[]> {
  const { rows } = await missing(requestId, sql`distinct f.hash`, sql`order by f.hash`).execute(db);
  return rows.map((row) => (row as { hash: Uint8Array }).hash);
}

export async function countMissingBlobs(db: Kysely<Database>, requestId: string): Promise<number> {
  const { rows } = await missing(requestId, sql`count(distinct f.hash)::int as count`, sql``).execute(db);
  return (rows[0] as { count: number }).count;
}

function missing(requestId: string, what: ReturnType<typeof sql>, order: ReturnType<typeof sql>) {
  return sql`
    select ${what} from build_request_file f join build_request r on r.id = f.request_id
    where f.request_id = ${requestId} and not exists (
      select from source_blob b where b.organization_id = r.organization_id and b.hash = f.hash) ${order}`;
}

/** The size that the request gives for a content; undefined when it names no such content. */
export async function findRequestedSize(
  db: Kysely<Database>,
  requestId: string,
  hash: Uint8Array,
): Promise<number | undefined> {
  const row = await db
    .selectFrom("build_request_file")
    .select("size")
    .where("request_id", "=", requestId)
    .where("hash", "=", hash)
    .limit(1)
    .executeTakeFirst();
  return row?.size;
}

export interface StoredSourceFile extends SourceFile {
  readonly objectKey: string;
}

/** The request's files whose contents are there, in no order. */
export async function listStoredFiles(db: Kysely<Database>, requestId: string): Promise<StoredSourceFile[]> {
  const rows = await db
    .selectFrom("build_request_file as f")
    .innerJoin("build_request as r", "r.id", "f.request_id")
    .innerJoin("source_blob as b", (join) =>
      join.onRef("b.organization_id", "=", "r.organization_id").onRef("b.hash", "=", "f.hash"),
    )
    .select(["f.path", "f.hash", "f.size", "f.kind", "b.object_key as objectKey"])
    .where("f.request_id", "=", requestId)
    .execute();
  return rows.map(({ kind, ...file }) => ({ ...file, kind: SOURCE_FILE_KINDS[kind] ?? "file" }));
}

/** Ended requests whose time is over. */
export async function deleteExpiredRequests(db: Kysely<Database>, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from build_request where id in (
      select id from build_request where expires_at < gradient_now() order by expires_at limit ${limit})`.execute(db);
  return Number(numAffectedRows ?? 0);
}
