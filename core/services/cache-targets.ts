import type { Kysely } from "kysely";
import { listReadableStores, listWritableCaches } from "../db/cache-paths.ts";
import type { Database } from "../db/schema.ts";

/** Where an organization's paths go to and come from: ids of caches, in the order in which they are preferred. */
export interface OrganizationTargets {
  /** Active caches subscribed for writing. Outputs go to each of them. */
  readonly writable: readonly string[];
  /** The internal store first, then active caches subscribed for reading. */
  readonly readable: readonly string[];
  /** Of input sources; only the organization's workers read it. */
  readonly internal: string | null;
}

export async function organizationTargets(db: Kysely<Database>, organizationId: string): Promise<OrganizationTargets> {
  const [writable, stores] = await Promise.all([
    listWritableCaches(db, organizationId),
    listReadableStores(db, organizationId),
  ]);
  const internal = stores.find((store) => store.kind === 1);
  return { writable, readable: stores.map((store) => store.id), internal: internal?.id ?? null };
}
