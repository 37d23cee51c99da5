import { defaultDaemonOptions } from "#core/nix/daemon/options.ts";
import type { DaemonPathInfo } from "#core/nix/daemon/path-info.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { QUERY_PATHS_MAX } from "#core/protocol/limits.ts";
import type { DaemonConnection } from "./daemon/connection.ts";
import type { DaemonPool } from "./daemon/pool.ts";
import type { AttemptLink } from "./link.ts";
import { pushPath } from "./store/push-path.ts";
import { inReferenceOrder } from "./store/reference-order.ts";

const CONCURRENT_UPLOADS = 4;
/** A source that drags in more than this is a mistake: a whole system was taken for a source. */
const CLOSURE_PATHS_MAX = 100_000;

/**
 * Brings sources, with everything they refer to, into the organization's internal store. What the server has already
 * is not sent: a path that it offers has its references there too.
 */
export async function uploadSources(pool: DaemonPool, paths: readonly StorePath[], link: AttemptLink): Promise<void> {
  const settings = defaultDaemonOptions;
  const missing = await pool.use((connection) => missingClosure(connection, paths, link), {
    signal: link.signal,
    settings,
  });
  const references = new Map(Array.from(missing, ([path, info]) => [path, info.references]));
  await inReferenceOrder(references, CONCURRENT_UPLOADS, (path) =>
    pushPath(missing.get(path) as DaemonPathInfo, { pool, settings, lent: null, target: "source", link }),
  );
}

/** Walks down from the sources and stops at what the server has. */
async function missingClosure(
  connection: DaemonConnection,
  sources: readonly StorePath[],
  link: AttemptLink,
): Promise<ReadonlyMap<StorePath, DaemonPathInfo>> {
  const missing = new Map<StorePath, DaemonPathInfo>();
  const seen = new Set<StorePath>(sources);
  let wave = [...seen];
  while (wave.length > 0) {
    const next: StorePath[] = [];
    for (const path of await absentOf(wave, link)) {
      const info = await connection.queryPathInfo(path);
      if (!info) throw new Error(`the source ${path} is no longer in the worker's store`);
      missing.set(path, info);
      for (const reference of info.references) {
        if (seen.has(reference)) continue;
        seen.add(reference);
        next.push(reference);
      }
    }
    if (seen.size > CLOSURE_PATHS_MAX) throw new Error(`the sources refer to more than ${CLOSURE_PATHS_MAX} paths`);
    wave = next;
  }
  return missing;
}

async function absentOf(paths: readonly StorePath[], link: AttemptLink): Promise<StorePath[]> {
  const present = new Set<StorePath>();
  for (let start = 0; start < paths.length; start += QUERY_PATHS_MAX) {
    for (const { path } of await link.queryCache(paths.slice(start, start + QUERY_PATHS_MAX))) present.add(path);
  }
  return paths.filter((path) => !present.has(path));
}
