import type { Kysely } from "kysely";
import type { Database } from "./schema.ts";

export async function findIntegrationId(
  db: Kysely<Database>,
  organizationId: string,
  { kind, name }: { readonly kind: number; readonly name: string },
): Promise<string | undefined> {
  const row = await db
    .selectFrom("integration")
    .select("id")
    .where("organization_id", "=", organizationId)
    .where("kind", "=", kind)
    .where("name", "=", name)
    .executeTakeFirst();
  return row?.id;
}
