import { type Kysely, sql } from "kysely";
import type { Database, WorkerDescription } from "#core/db/schema.ts";
import { openWorkerConnection } from "#core/db/worker-connections.ts";
import { uuidV4 } from "#core/lib/ids.ts";
import { newId } from "../support/rows.ts";
import { SYSTEM } from "./nodes.ts";

export interface ConnectOptions {
  readonly workerId?: string;
  readonly architectures?: readonly string[];
  readonly features?: readonly string[];
  readonly places?: number;
  readonly draining?: boolean;
  readonly fetch?: boolean;
  readonly eval?: boolean;
  readonly build?: boolean;
}

/** Registers a worker in the organization and opens a session of it, as a server does. Answers its id. */
export async function connectWorker(
  db: Kysely<Database>,
  organizationId: string,
  options: ConnectOptions = {},
): Promise<string> {
  const { workerId = uuidV4(), architectures = [SYSTEM], features = [], places = 4 } = options;
  const { fetch = true, eval: evaluate = true, build = true } = options;
  await sql`
    insert into worker_registration (id, organization_id, worker_id, display_name, token_hash)
    values (${newId()}, ${organizationId}, ${workerId}, 'worker', '')`.execute(db);
  const description: WorkerDescription = {
    capabilities: { fetch, eval: evaluate, build, sign: false, federate: false },
    groups: [{ architectures, system_features: features, max_concurrent_builds: places }],
    max_concurrent_evaluations: 1,
    cpu_count: 4,
    ram_total_mb: 0,
    signing_key: null,
    draining: options.draining ?? false,
  };
  const session = { id: newId(), workerId, serverId: newId(), organizationIds: [organizationId], description };
  await openWorkerConnection(db, session);
  return workerId;
}

export async function disconnectWorker(db: Kysely<Database>, workerId: string): Promise<void> {
  await sql`update worker_connection set disconnected_at = gradient_now() where worker_id = ${workerId}`.execute(db);
}
