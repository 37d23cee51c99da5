import type { Kysely } from "kysely";
import type { Database } from "./schema.ts";
import type { IntegrationRow } from "./tables/integration.ts";

export type NamedIntegration = Pick<IntegrationRow, "id" | "name" | "display_name" | "forge_type">;

/** Those of the organization among them. */
export async function listIntegrationsByIds(
  db: Kysely<Database>,
  organizationId: string,
  ids: readonly string[],
): Promise<NamedIntegration[]> {
  if (ids.length === 0) return [];
  return await db
    .selectFrom("integration")
    .select(["id", "name", "display_name", "forge_type"])
    .where("organization_id", "=", organizationId)
    .where("id", "in", ids)
    .execute();
}
