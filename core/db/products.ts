import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import type { AttemptMetrics } from "./tables/build-results.ts";

export interface ProductRow {
  readonly output: string;
  readonly type: string;
  readonly subtype: string;
  readonly name: string;
  /** Without the store folder. */
  readonly path: string;
  readonly size: number | null;
}

/** In the order in which the build listed them. */
export async function listProducts(db: Kysely<Database>, buildId: string): Promise<ProductRow[]> {
  return await db
    .selectFrom("build_product")
    .select(["output", "type", "subtype", "name", "path", "size"])
    .where("build_id", "=", buildId)
    .orderBy("ordinal")
    .execute();
}

/** The products of each build's last success, in place of those it had. The builds are locked by this transaction. */
export async function replaceProducts(
  trx: Transaction<Database>,
  built: readonly { readonly buildId: string; readonly products: readonly ProductRow[] }[],
): Promise<void> {
  if (built.length === 0) return;
  const ids = built.map(({ buildId }) => buildId);
  await trx.deleteFrom("build_product").where("build_id", "=", sql<string>`any(${ids}::uuid[])`).execute();
  const rows = built.flatMap(({ buildId, products }) =>
    products.map((product, ordinal) => ({ build_id: buildId, ordinal, ...product })),
  );
  if (rows.length === 0) return;
  await sql`
    insert into build_product (build_id, ordinal, output, type, subtype, name, path, size)
    select * from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb)
      as r(build_id uuid, ordinal integer, output text, type text, subtype text, name text, path text, size bigint)
  `.execute(trx);
}

/** What attempts took, in one statement. */
export async function recordMetrics(
  trx: Transaction<Database>,
  measured: readonly (AttemptMetrics & { readonly id: string })[],
): Promise<void> {
  if (measured.length === 0) return;
  await sql`
    update attempt set build_ms = r.build_ms, cpu_user_ms = r.cpu_user_ms, cpu_system_ms = r.cpu_system_ms,
      peak_memory_bytes = r.peak_memory_bytes, io_read_bytes = r.io_read_bytes, io_write_bytes = r.io_write_bytes
    from jsonb_to_recordset(${JSON.stringify(measured)}::jsonb)
      as r(id uuid, build_ms bigint, cpu_user_ms bigint, cpu_system_ms bigint, peak_memory_bytes bigint,
        io_read_bytes bigint, io_write_bytes bigint)
    where attempt.id = r.id`.execute(trx);
}
