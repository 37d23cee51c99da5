import { inTransaction } from "../db/transaction.ts";
import type { ByteStream } from "../lib/streams.ts";
import { storePathHash } from "../nix/store-path.ts";
import { announceCommit, type CommitDeps, commitPaths } from "./cache-commit.ts";
import { type NarReceiveDeps, receiveNar } from "./nar-receive.ts";
import type { RemotePath } from "./upstream.ts";
import type { Upstreams } from "./upstreams.ts";

export interface UpstreamKeepDeps extends NarReceiveDeps, CommitDeps {
  readonly upstreams: Upstreams;
}

/**
 * Stores a zstd file that passes by, on the way that every NAR takes, and offers its path in the cache as the cache's
 * own. It reads the file to its end and never throws for its own sake: whoever waits for the file gets it, kept or not.
 */
export async function keepPassing(
  deps: UpstreamKeepDeps,
  { cacheId, path }: { readonly cacheId: string; readonly path: RemotePath },
  file: ByteStream,
): Promise<void> {
  const { info } = path;
  const passing = file[Symbol.asyncIterator]();
  // Whoever stores may give up and go: what passes goes on passing.
  const body = { [Symbol.asyncIterator]: () => ({ next: () => passing.next() }) };
  try {
    await receiveNar(deps, { narHash: info.narHash, narSize: info.narSize, compression: "zstd", body });
    // What it refers to may have come to the cache by names that were never asked for here.
    await deps.upstreams.find([cacheId], info.references);
    const { storePath, narHash, references, deriver, ca, signatures } = info;
    const committed = await inTransaction(deps.db, (trx) =>
      commitPaths(trx, deps, {
        cacheIds: [cacheId],
        organizationId: null,
        paths: [{ storePath, narHash, references, deriver, ca, signatures: signatures.slice(0, SIGNATURES_MAX) }],
      }),
    );
    announceCommit(deps.notifier, committed);
    // What was remembered of it named the upstream's file.
    deps.notifier.notify("path", `${cacheId}/${storePathHash(storePath)}`);
  } catch (error) {
    deps.log.warn("what passed from an upstream was not kept", { path: info.storePath, error });
    while (!(await passing.next()).done);
  }
}

/** As many as a path of our own may have beside ours. */
const SIGNATURES_MAX = 31;
