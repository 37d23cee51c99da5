import { type Kysely, sql } from "kysely";
import type { WorkerOffer } from "../domain/scheduling/eligibility.ts";
import type { Database, WorkerDescription } from "./schema.ts";

/** A session that was silent for longer is over, whether or not a server lived to write that down. */
const SILENCE_MS_MAX = 180_000;

/**
 * The workers that are connected to any server, with what each of their organizations lets them do. Whoever has no
 * organization that lets it in is left out.
 */
export async function listConnectedWorkers(db: Kysely<Database>): Promise<WorkerOffer[]> {
  const { rows } = await sql<{ worker_id: string; description: WorkerDescription; grants: WorkerOffer["grants"] }>`
    select c.worker_id, c.description, jsonb_agg(jsonb_build_object(
      'organizationId', r.organization_id,
      'fetch', r.enable_fetch, 'eval', r.enable_eval, 'build', r.enable_build)) as grants
    from worker_connection c
    join worker_registration r on r.worker_id = c.worker_id and r.organization_id = any(c.organization_ids) and r.active
    where c.disconnected_at is null and c.last_seen_at > gradient_now() - ${SILENCE_MS_MAX} * interval '1 millisecond'
    group by c.id, c.worker_id, c.description`.execute(db);
  return rows.map(({ worker_id, description, grants }) => offerOf(worker_id, description, grants));
}

/** A worker by what it said of itself and what each organization allows it; its places are all it has. */
export function offerOf(
  workerId: string,
  { capabilities, groups, max_concurrent_evaluations, evaluation_groups, draining }: WorkerDescription,
  grants: WorkerOffer["grants"],
): WorkerOffer {
  return {
    workerId,
    draining,
    grants: grants.map((grant) => ({
      organizationId: grant.organizationId,
      fetch: grant.fetch && capabilities.fetch,
      eval: grant.eval && capabilities.eval,
      build: grant.build && capabilities.build,
    })),
    groups: groups.map((group) => ({
      architectures: group.architectures,
      systemFeatures: group.system_features,
      places: group.max_concurrent_builds,
      ...(group.organizations && { organizationIds: group.organizations }),
    })),
    evaluationPlaces: max_concurrent_evaluations,
    ...(evaluation_groups && {
      evaluationGroups: evaluation_groups.map((group) => ({
        fetch: group.fetch,
        eval: group.eval,
        places: group.max_concurrent_evaluations,
        ...(group.organizations && { organizationIds: group.organizations }),
      })),
    }),
  };
}
