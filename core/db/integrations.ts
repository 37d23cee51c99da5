import { type Insertable, type Kysely, sql, type Transaction, type Updateable } from "kysely";
import type { Database } from "./schema.ts";
import type { IntegrationRow, IntegrationTable } from "./tables/integration.ts";

export type IntegrationChanges = Pick<
  Updateable<IntegrationTable>,
  "name" | "display_name" | "forge_type" | "endpoint_url" | "secret" | "access_token" | "allowed_ips"
>;

/** By name, the inbound one of a pair first. */
export async function listIntegrations(db: Kysely<Database>, organizationId: string): Promise<IntegrationRow[]> {
  return await db
    .selectFrom("integration")
    .selectAll()
    .where("organization_id", "=", organizationId)
    .orderBy("name")
    .orderBy("kind")
    .execute();
}

export async function countIntegrations(db: Kysely<Database>, organizationId: string): Promise<number> {
  const { total } = await db
    .selectFrom("integration")
    .select(sql<number>`count(*)::int`.as("total"))
    .where("organization_id", "=", organizationId)
    .executeTakeFirstOrThrow();
  return total;
}

export async function findIntegration(
  db: Kysely<Database>,
  { id, organizationId }: { readonly id: string; readonly organizationId: string },
): Promise<IntegrationRow | undefined> {
  return await db
    .selectFrom("integration")
    .selectAll()
    .where("id", "=", id)
    .where("organization_id", "=", organizationId)
    .executeTakeFirst();
}

/** Two changes of one integration never overlap. */
export async function lockIntegration(
  trx: Transaction<Database>,
  which: { readonly id: string; readonly organizationId: string },
): Promise<IntegrationRow | undefined> {
  return await trx
    .selectFrom("integration")
    .selectAll()
    .where("id", "=", which.id)
    .where("organization_id", "=", which.organizationId)
    .forUpdate()
    .executeTakeFirst();
}

/** Fails on `integration_name_key`. */
export async function insertIntegration(
  db: Kysely<Database>,
  integration: Insertable<IntegrationTable>,
): Promise<void> {
  await db.insertInto("integration").values(integration).execute();
}

/** Fails on `integration_name_key`. */
export async function updateIntegration(db: Kysely<Database>, id: string, changes: IntegrationChanges): Promise<void> {
  if (Object.keys(changes).length === 0) return;
  await db.updateTable("integration").set(changes).where("id", "=", id).execute();
}

/** The row; of a GitHub App, whose rows come in pairs, the other one of the organization too. */
export async function deleteIntegration(
  db: Kysely<Database>,
  { id, organization_id, installation_id }: Pick<IntegrationRow, "id" | "organization_id" | "installation_id">,
): Promise<void> {
  await db
    .deleteFrom("integration")
    .where("organization_id", "=", organization_id)
    .where((eb) =>
      installation_id === null
        ? eb("id", "=", id)
        : eb.or([eb("id", "=", id), eb("installation_id", "=", installation_id)]),
    )
    .execute();
}
