import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

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

/** Those of several builds, each in the order in which it listed them. */
export async function listProductsOfBuilds(
  db: Kysely<Database>,
  buildIds: readonly string[],
): Promise<(ProductRow & { readonly build_id: string })[]> {
  return await db
    .selectFrom("build_product")
    .select(["build_id", "output", "type", "subtype", "name", "path", "size"])
    .where("build_id", "=", sql<string>`any(${buildIds}::uuid[])`)
    .orderBy("build_id")
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
