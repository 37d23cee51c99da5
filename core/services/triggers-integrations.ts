import type { Kysely } from "kysely";
import type { TriggerConfig } from "../api/triggers.ts";
import { findIntegration } from "../db/integrations.ts";
import type { Database } from "../db/schema.ts";
import { IntegrationKind } from "../domain/integrations.ts";
import { DomainError } from "../errors.ts";

/** Throws `bad_request` unless what reports to the trigger is an inbound integration of the same organization. */
export async function requireInboundIntegration(
  db: Kysely<Database>,
  organizationId: string,
  config: TriggerConfig,
): Promise<void> {
  if (config.type !== "reporter_push" && config.type !== "reporter_pull_request") return;
  const integration = await findIntegration(db, { id: config.integration_id, organizationId });
  if (integration?.kind === IntegrationKind.inbound) return;
  throw new DomainError("bad_request", "config.integration_id: the organization has no inbound integration of this id");
}
