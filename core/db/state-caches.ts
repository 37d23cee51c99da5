import type { Kysely, Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface StateSubscription {
  readonly id: string;
  readonly organization_id: string;
  readonly organization_name: string;
  readonly mode: number;
  /** Put there by the state file. */
  readonly managed: boolean;
}

export async function listSubscriptionsTo(db: Kysely<Database>, cacheId: string): Promise<StateSubscription[]> {
  return await db
    .selectFrom("organization_cache")
    .innerJoin("organization", "organization.id", "organization_cache.organization_id")
    .select(["organization_cache.id", "organization_id", "mode", "organization_cache.managed"])
    .select("organization.name as organization_name")
    .where("cache_id", "=", cacheId)
    .orderBy("organization_cache.id")
    .execute();
}

export async function insertDeclaredSubscription(
  trx: Transaction<Database>,
  row: { readonly id: string; readonly organization_id: string; readonly cache_id: string; readonly mode: number },
): Promise<void> {
  await trx
    .insertInto("organization_cache")
    .values({ ...row, managed: true })
    .execute();
}

export async function updateDeclaredSubscription(
  trx: Transaction<Database>,
  id: string,
  changes: { readonly mode?: number; readonly managed?: boolean },
): Promise<void> {
  await trx.updateTable("organization_cache").set(changes).where("id", "=", id).execute();
}

export async function deleteSubscriptionById(trx: Transaction<Database>, id: string): Promise<void> {
  await trx.deleteFrom("organization_cache").where("id", "=", id).execute();
}

/** People may change the cache's roles and end its subscriptions from now on. */
export async function releasePartsOf(trx: Transaction<Database>, cacheId: string): Promise<void> {
  for (const table of ["organization_cache", "cache_role"] as const) {
    await trx
      .updateTable(table)
      .set({ managed: false })
      .where("cache_id", "=", cacheId)
      .where("managed", "=", true)
      .execute();
  }
}

/** For whose sake another cache is read that is not public. */
export async function setUpstreamReader(
  trx: Transaction<Database>,
  { id, userId }: { readonly id: string; readonly userId: string | null },
): Promise<void> {
  await trx.updateTable("cache_upstream").set({ added_by: userId }).where("id", "=", id).execute();
}

export async function findCacheCreator(db: Kysely<Database>, cacheId: string): Promise<string | null> {
  const row = await db.selectFrom("cache").select("created_by").where("id", "=", cacheId).executeTakeFirst();
  return row?.created_by ?? null;
}
