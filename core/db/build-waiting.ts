import { type Kysely, sql } from "kysely";
import type { BuildNeed } from "../domain/scheduling/eligibility.ts";
import type { Database } from "./schema.ts";

export interface BuildStanding extends BuildNeed {
  readonly status: number;
  readonly priority: number;
  readonly pendingDependencies: number;
  readonly retryAt: Date | null;
  /** Ready builds with the same need and priority that have waited longer; counted up to `aheadMax`. */
  readonly ahead: number;
}

export async function findBuildStanding(
  db: Kysely<Database>,
  buildId: string,
  aheadMax: number,
): Promise<BuildStanding | undefined> {
  const { rows } = await sql<BuildStanding>`
    select b.organization_id as "organizationId", b.system, b.required_features as "requiredFeatures", b.status,
      b.priority, b.pending_dependencies as "pendingDependencies", b.retry_at as "retryAt",
      (select count(*)::int from (
        select from build o
        where b.status = 1 and o.status = 1 and o.organization_id = b.organization_id and o.system = b.system
          and o.required_features = b.required_features and o.priority = b.priority
          and (o.ready_at, o.id) < (b.ready_at, b.id) limit ${aheadMax}) earlier) as ahead
    from build b where b.id = ${buildId}`.execute(db);
  return rows[0];
}
