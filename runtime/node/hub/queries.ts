import { listPathsWithNar, listReadableStores } from "#core/db/cache-paths.ts";
import { listRealisations } from "#core/db/realisations.ts";
import { formatRealisationId, type RealisationKey } from "#core/nix/realisation.ts";
import { type StorePath, storePathBaseName, storePathHash } from "#core/nix/store-path.ts";
import type { WorkerMessage } from "#core/protocol/worker-messages.ts";
import { narInfoOf } from "#core/services/cache-path.ts";
import { availablePathsWithUpstreams } from "#core/services/paths-availability.ts";
import type { HubDeps } from "./deps.ts";
import type { LeasedAttempt } from "./leased-attempts.ts";
import { pathInfoField } from "./nar-transfers.ts";
import type { WorkerConnection } from "./session.ts";

type DerivationQuery = Extract<WorkerMessage, { type: "query_derivations" }>;
type CacheQuery = Extract<WorkerMessage, { type: "cache_query" }>;

/**
 * A derivation is known when every output is in a store that the organization reads, which holds their closures too,
 * or in an upstream of it, or such a store knows where it is: the evaluation need not look below it. "Could not find
 * out" is an answer of its own.
 */
export async function answerDerivationQuery(
  deps: HubDeps,
  connection: WorkerConnection,
  { organizationId }: LeasedAttempt,
  { query, derivations }: DerivationQuery,
): Promise<void> {
  try {
    const paths = derivations.flatMap(({ outputs }) => outputs);
    const available = await availablePathsWithUpstreams(deps, organizationId, paths);
    const keys = derivations.flatMap(({ realisations = [] }) => realisations);
    const realised = await availableRealisations(deps.db, organizationId, keys);
    const known = derivations.map(({ outputs, realisations = [] }) => {
      if (outputs.length + realisations.length === 0) return false;
      const isThere = (key: RealisationKey) => realised.has(formatRealisationId(key));
      return outputs.every((path) => available.has(path)) && realisations.every(isThere);
    });
    connection.send({ type: "derivation_status", query, known });
  } catch (error) {
    unanswered(deps, connection, query, error);
  }
}

/** Those that a store which the organization reads knows, and whose paths it offers. */
async function availableRealisations(
  db: HubDeps["db"],
  organizationId: string,
  keys: readonly RealisationKey[],
): Promise<ReadonlySet<string>> {
  if (keys.length === 0) return new Set();
  const cacheIds = (await listReadableStores(db, organizationId)).map(({ id }) => id);
  return new Set((await listRealisations(db, { cacheIds, keys })).map(formatRealisationId));
}

/** An evaluation asks which input sources it has to send: those are in the organization's own stores or nowhere. */
export async function answerCacheQuery(
  deps: HubDeps,
  connection: WorkerConnection,
  { organizationId, kind }: LeasedAttempt,
  { query, paths, hashes = [] }: CacheQuery,
): Promise<void> {
  try {
    const cacheIds = (await listReadableStores(deps.db, organizationId)).map(({ id }) => id);
    const rows = await listPathsWithNar(deps.db, { cacheIds, hashes: [...paths.map(storePathHash), ...hashes] });
    const byName = new Map(rows.map((row) => [row.store_path, row]));
    const present = paths.flatMap((path: StorePath) => {
      const row = byName.get(storePathBaseName(path));
      return row ? [pathInfoField(narInfoOf(row))] : [];
    });
    const asked = new Set(hashes);
    for (const row of rows) if (asked.has(row.hash)) present.push(pathInfoField(narInfoOf(row)));
    if (kind === "build") {
      const others = paths.filter((path) => !byName.has(storePathBaseName(path)));
      const { found } = await deps.upstreams.find(cacheIds, others);
      for (const { info } of found.values()) present.push(pathInfoField(info));
    }
    connection.send({ type: "cache_status", query, present });
  } catch (error) {
    unanswered(deps, connection, query, error);
  }
}

function unanswered(deps: HubDeps, connection: WorkerConnection, query: number, error: unknown): void {
  deps.log.error("a worker's query could not be answered", { error });
  connection.send({ type: "query_error", query, message: "the server could not find out; ask again" });
}
