import type { Kysely, Transaction } from "kysely";
import type { Database } from "./schema.ts";

export interface StateSubscription {
  readonly id: string;
  readonly organization_id: string;
  readonly mode: number;
  /** Put there by the state file. */
  readonly managed: boolean;
}

export async function listSubscriptionsTo(db: Kysely<Database>, cacheId: string): Promise<StateSubscription[]> {
  return await db
    .selectFrom("organization_cache")
    .select(["id", "organization_id", "mode", "managed"])
    .where("cache_id", "=", cacheId)
    .orderBy("id")
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

/** People may end them from now on. */
export async function releaseSubscriptions(trx: Transaction<Database>, cacheId: string): Promise<void> {
  await trx
    .updateTable("organization_cache")
    .set({ managed: false })
    .where("cache_id", "=", cacheId)
    .where("managed", "=", true)
    .execute();
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
