import { listPathsWithNar, listReadableStores } from "../db/cache-paths.ts";
import { chunksOf } from "../lib/chunks.ts";
import { type StorePath, storePathHash } from "../nix/store-path.ts";
import { narOf } from "./nar.ts";
import { isNarStored, type NarOpenDeps } from "./nar-open.ts";
import type { TransitionDeps } from "./transitions/deps.ts";
import { loseOutputs } from "./transitions/loss.ts";
import type { Upstreams } from "./upstreams.ts";

export interface MissingInputsDeps extends TransitionDeps, NarOpenDeps {
  readonly upstreams: Upstreams;
}

/** What one result may have looked at; the audit finds the rest. */
const PATHS_MAX = 200;
const CHUNK = 20;

/**
 * A worker of the organization could not get these inputs. Each is looked for where it should be: an object that is
 * gone is taken out of service, an upstream that has lost a path is remembered so. What then cannot be had is lost, and
 * is built again or recovered at once. A worker's word alone takes nothing away.
 */
export async function healMissingInputs(
  deps: MissingInputsDeps,
  organizationId: string,
  storePaths: readonly StorePath[],
): Promise<void> {
  const paths = storePaths.slice(0, PATHS_MAX);
  const cacheIds = (await listReadableStores(deps.db, organizationId)).map((store) => store.id);
  for (const chunk of chunksOf(paths, CHUNK)) {
    const rows = await listPathsWithNar(deps.db, { cacheIds, hashes: chunk.map(storePathHash) });
    await Promise.all(rows.map((row) => isNarStored(deps, narOf(row))));
    await deps.upstreams.confirm(cacheIds, chunk);
  }
  await loseOutputs(deps, paths, organizationId);
}
