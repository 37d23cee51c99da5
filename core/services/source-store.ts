import { inTransaction } from "../db/transaction.ts";
import { DomainError } from "../errors.ts";
import type { ByteStream } from "../lib/streams.ts";
import { formatHash, type Hash } from "../nix/hash.ts";
import { NarParseError, validateNar } from "../nix/nar-reader.ts";
import { makeSourcePath, type StorePath } from "../nix/store-path.ts";
import { announceCommit, type CommitDeps, commitPaths } from "./cache-commit.ts";
import { organizationTargets } from "./cache-targets.ts";
import { type NarReceiveDeps, receiveNar } from "./nar-receive.ts";

export type SourceStoreDeps = NarReceiveDeps & CommitDeps;

export interface SourceNar {
  /** The NAR from its beginning, each time it is called. */
  readonly open: () => ByteStream;
  readonly bytesMax: number;
}

/**
 * Puts a source tree into the organization's internal store and answers where it is. The NAR is read twice, in constant
 * memory: its place follows from its hash. Throws `bad_request` for what is no NAR, `payload_too_large`. Does the
 * process die on the way, the store holds a path that nothing names.
 */
export async function storeSource(
  deps: SourceStoreDeps,
  organizationId: string,
  { open, bytesMax }: SourceNar,
): Promise<StorePath> {
  const { narHash, narSize } = await measure(deps, open(), bytesMax);
  const storePath = await makeSourcePath("source", narHash.digest, []);
  await receiveNar(deps, { narHash, narSize, compression: "none", body: open() });
  const committed = await inTransaction(
    deps.db,
    async (trx) => {
      const { internal } = await organizationTargets(trx, organizationId);
      if (internal === null) throw new DomainError("not_found", "Organization not found");
      const ca = `fixed:r:${formatHash(narHash, "nix32")}`;
      const path = { storePath, narHash, references: [], deriver: null, ca };
      return await commitPaths(trx, deps, { cacheIds: [internal], organizationId, paths: [path] });
    },
    deps,
  );
  announceCommit(deps.notifier, committed);
  return storePath;
}

async function measure(
  { hasher }: SourceStoreDeps,
  nar: ByteStream,
  bytesMax: number,
): Promise<{ readonly narHash: Hash; readonly narSize: number }> {
  const hash = hasher.sha256();
  let narSize = 0;
  try {
    for await (const bytes of validateNar(nar)) {
      narSize += bytes.length;
      if (narSize > bytesMax) throw sourceTooLarge(bytesMax);
      hash.update(bytes);
    }
  } catch (error) {
    if (error instanceof NarParseError) throw new DomainError("bad_request", `The source is no NAR: ${error.message}`);
    throw error;
  }
  return { narHash: { algorithm: "sha256", digest: hash.digest() }, narSize };
}

export function sourceTooLarge(bytesMax: number): DomainError {
  return new DomainError(
    "payload_too_large",
    `The source is larger than the ${bytesMax} bytes that this server takes: leave out what the build does not need`,
  );
}
