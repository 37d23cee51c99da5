import type { Kysely } from "kysely";
import { insertCache } from "#core/db/caches.ts";
import type { Database } from "#core/db/schema.ts";
import { SubscriptionMode } from "#core/domain/subscription.ts";
import { uuidV7 } from "#core/lib/ids.ts";
import type { Random } from "./random.ts";
import type { Simulator } from "./simulator.ts";
import type { WorkerMachine } from "./worker.ts";

export const REPOSITORY = "https://example.com/site.git";

export interface SimulatedOrganization {
  readonly id: string;
  readonly name: string;
  readonly projectIds: readonly string[];
  readonly workers: readonly WorkerMachine[];
}

interface Plan {
  readonly random: Random;
  readonly simulator: Simulator;
  readonly organizations: readonly { readonly workers: readonly WorkerMachine[]; readonly projects: number }[];
}

/**
 * Organizations with projects, caches and workers: everything that stands before the first event. Each has a cache of
 * its own; a later one may read the first one's. Others may have registered a worker's id, which means nothing to it.
 */
export async function populate(
  db: Kysely<Database>,
  { random, simulator, organizations }: Plan,
): Promise<readonly SimulatedOrganization[]> {
  const newId = () => uuidV7(simulator.nowMs, random.bytes);
  const made: SimulatedOrganization[] = [];
  const caches: string[] = [];
  for (const [i, { workers, projects }] of organizations.entries()) {
    const organization = { id: newId(), name: `organization-${i + 1}`, workers };
    caches.push(await insertOrganization(db, organization, newId));
    if (i > 0 && random.chance(0.5)) await subscribe(db, organization.id, caches[0] as string, { newId, reads: true });
    const foreign = organizations.flatMap((other) => (other.workers === workers ? [] : other.workers));
    for (const worker of [...workers, ...foreign.filter(() => random.chance(0.3))]) {
      const token_hash = workers.includes(worker) ? worker.token : "of somebody else";
      const row = { id: newId(), organization_id: organization.id, worker_id: worker.id, display_name: worker.name };
      await db
        .insertInto("worker_registration")
        .values({ ...row, token_hash })
        .execute();
    }
    const projectIds = Array.from({ length: projects }, newId);
    for (const [k, id] of projectIds.entries()) await insertProject(db, organization.id, { id, name: `project-${k}` });
    made.push({ ...organization, projectIds });
  }
  return made;
}

/** Returns its cache's id. */
async function insertOrganization(
  db: Kysely<Database>,
  { id, name }: Pick<SimulatedOrganization, "id" | "name">,
  newId: () => string,
): Promise<string> {
  const display = { display_name: name, description: "" };
  await db
    .insertInto("organization")
    .values({ id, name, ...display, ssh_public_key: "", ssh_secret_key: new Uint8Array() })
    .execute();
  const keys = { public_key: "", secret_key: new Uint8Array() };
  const internal = { id: newId(), kind: 1, organization_id: id };
  await insertCache(db, { ...internal, ...display, ...keys });
  const cacheId = newId();
  await insertCache(db, { id: cacheId, name, ...display, ...keys });
  await subscribe(db, id, cacheId, { newId, reads: false });
  return cacheId;
}

async function subscribe(
  db: Kysely<Database>,
  organizationId: string,
  cacheId: string,
  { newId, reads }: { readonly newId: () => string; readonly reads: boolean },
): Promise<void> {
  const mode = reads ? SubscriptionMode.ReadOnly : SubscriptionMode.ReadWrite;
  const row = { id: newId(), organization_id: organizationId, cache_id: cacheId, mode };
  await db.insertInto("organization_cache").values(row).execute();
}

async function insertProject(
  db: Kysely<Database>,
  organizationId: string,
  { id, name }: { readonly id: string; readonly name: string },
): Promise<void> {
  const source = { repository: REPOSITORY, wildcard: "packages.*.*" };
  const display = { display_name: "Project", description: "" };
  await db
    .insertInto("project")
    .values({ id, organization_id: organizationId, name, ...display, ...source })
    .execute();
}
