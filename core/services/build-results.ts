import type { Kysely, Transaction } from "kysely";
import { listBuildOutputs } from "../db/graph.ts";
import { type ProductRow, replaceProducts } from "../db/products.ts";
import type { Database } from "../db/schema.ts";
import { STORE_DIR } from "../nix/store-path.ts";
import type { BuildProduct, BuildResult } from "../protocol/worker-messages.ts";

export interface EndedBuild {
  readonly buildId: string;
  /** It made what it had to: its products are offered. */
  readonly succeeded: boolean;
  readonly result: BuildResult;
}

const STORE_PREFIX = `${STORE_DIR}/`;

/**
 * Keeps what builds offer for download. The builds are locked by this transaction. Costs nothing for those that offer
 * nothing.
 */
export async function recordProducts(trx: Transaction<Database>, ended: readonly EndedBuild[]): Promise<void> {
  const offering = ended.filter(({ succeeded, result }) => succeeded && result.products !== undefined);
  if (offering.length === 0) return;
  const outputs = await outputsOf(
    trx,
    offering.map(({ buildId }) => buildId),
  );
  const built = offering.map(({ buildId, result }) => ({
    buildId,
    products: ownProducts(result.products ?? [], outputs.get(buildId) ?? []),
  }));
  await replaceProducts(trx, built);
}

async function outputsOf(
  db: Kysely<Database>,
  buildIds: readonly string[],
): Promise<ReadonlyMap<string, readonly string[]>> {
  const rows = Map.groupBy(await listBuildOutputs(db, buildIds), (row) => row.build_id);
  return new Map(Array.from(rows, ([id, outputs]) => [id, outputs.flatMap(({ store_path }) => store_path ?? [])]));
}

/** A worker may name files of the build's own outputs and nothing else: whoever sees the build may fetch them. */
function ownProducts(products: readonly BuildProduct[], outputs: readonly string[]): ProductRow[] {
  return products.flatMap(({ path: whole, ...product }) => {
    if (!whole.startsWith(STORE_PREFIX)) return [];
    const path = whole.slice(STORE_PREFIX.length);
    const [base = "", ...below] = path.split("/");
    const inside = outputs.includes(base) && below.every((name) => name !== "" && name !== "." && name !== "..");
    return inside ? [{ ...product, path }] : [];
  });
}
