import { assert } from "#core/lib/assert.ts";
import { type Clock, sleep } from "#core/lib/clock.ts";
import type { DaemonOptions } from "#core/nix/daemon/options.ts";
import type { NewPathInfo } from "#core/nix/daemon/path-info.ts";
import { parseSha256Hex } from "#core/nix/hash.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import type { DaemonConnection } from "../daemon/connection.ts";
import type { DaemonPool } from "../daemon/pool.ts";
import type { AttemptLink } from "../link.ts";
import { CorruptNarError, checkedNar, discardBody, FetchInterruptedError } from "./checked-nar.ts";

export interface ImportDeps {
  readonly pool: DaemonPool;
  readonly settings: DaemonOptions;
  readonly clock: Clock;
}

/** The server sends another NAR of the path than it spoke of: with other references. */
export class ReferencesChangedError extends Error {
  override readonly name = "ReferencesChangedError";
  readonly info: PathInfoField;

  constructor(info: PathInfoField) {
    super(`${info.path} has other references than the server said before`);
    this.info = info;
  }
}

const TRIES_MAX = 5;
const RETRY_PAUSE_MS = 500;

/**
 * Fetches a path, unless it is there, and imports it into the store while it comes, in constant memory; everything it
 * refers to is there.
 * A fetch that is interrupted is begun again. Throws `PathUnavailableError`, `CorruptNarError`,
 * `ReferencesChangedError`, `FetchInterruptedError` after 5 tries, and what the daemon throws.
 */
export async function importPath(expected: PathInfoField, link: AttemptLink, deps: ImportDeps): Promise<void> {
  const { pool, settings, clock } = deps;
  for (let tries = 1; ; tries++) {
    try {
      // The connection first: a stream that waits for one would hold back others.
      return await pool.use((connection) => importOnce(expected, link, connection), { signal: link.signal, settings });
    } catch (error) {
      if (!(error instanceof FetchInterruptedError) || tries === TRIES_MAX) throw error;
      await sleep(clock, RETRY_PAUSE_MS * 2 ** (tries - 1), link.signal);
      link.signal.throwIfAborted();
    }
  }
}

async function importOnce(expected: PathInfoField, link: AttemptLink, connection: DaemonConnection): Promise<void> {
  // Another build may have brought it since this one looked.
  if ((await connection.queryValidPaths([expected.path])).has(expected.path)) return;
  const fetched = await link.fetchNar(expected.path);
  const { info } = fetched;
  let begun = false;
  async function* nar(): AsyncGenerator<Uint8Array> {
    begun = true;
    yield* checkedNar(fetched);
  }
  try {
    if (info.path !== expected.path)
      throw new CorruptNarError(expected.path, `the server sent ${info.path} in its place`);
    if (!sameMembers(info.references, expected.references)) throw new ReferencesChangedError(info);
    await connection.addToStoreNar(newPathInfo(info), nar(), { checkSignatures: false });
  } finally {
    if (!begun) await discardBody(fetched.body);
  }
}

function newPathInfo(info: PathInfoField): NewPathInfo {
  const narHash = parseSha256Hex(info.nar_hash);
  assert(narHash, "a NAR hash passed the schema of the protocol");
  return {
    path: info.path,
    narHash,
    narSize: info.nar_size,
    references: info.references,
    deriver: info.deriver,
    contentAddress: info.ca,
  };
}

function sameMembers(a: readonly string[], b: readonly string[]): boolean {
  const set = new Set(a);
  return b.every((item) => set.has(item)) && new Set(b).size === set.size;
}
