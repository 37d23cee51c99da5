import { toHex } from "#core/lib/bytes.ts";
import { type ByteStream, collect, streamOf } from "#core/lib/streams.ts";
import type { DaemonOptions } from "#core/nix/daemon/options.ts";
import type { DaemonPathInfo } from "#core/nix/daemon/path-info.ts";
import { compressZstd, compressZstdAtOnce } from "../codec.ts";
import type { DaemonConnection } from "../daemon/connection.ts";
import type { DaemonPool } from "../daemon/pool.ts";
import type { AttemptLink, Upload } from "../link.ts";
import type { Signer } from "../signing-key.ts";

export interface PushSource {
  readonly pool: DaemonPool;
  readonly settings: DaemonOptions;
  /** A connection that may be used when nobody else does; where it is not, one of the pool is. */
  readonly lent: LentConnection | null;
  /** Null for a worker that does not sign. */
  readonly signer?: Signer | null;
}

/** NARs up to this size are compressed in one go: it is quicker than a stream, and holds up the worker for 0.2 ms. */
export const AT_ONCE_BYTES_MAX: number = 64 * 1024;

/** How a path of the store is sent to the server: as zstd and in constant memory. */
export async function uploadOf(
  info: DaemonPathInfo,
  { target, link, ...source }: PushSource & { readonly target: "source" | "output"; readonly link: AttemptLink },
): Promise<Upload> {
  const open = () => readStored(info, source, link.signal);
  const signature = await source.signer?.sign({ ...info, storePath: info.path });
  return {
    target,
    ...(signature !== undefined && { signatures: [signature] }),
    info: {
      path: info.path,
      nar_hash: toHex(info.narHash.digest),
      nar_size: info.narSize,
      references: [...info.references],
      deriver: info.deriver,
      ca: info.contentAddress,
    },
    compression: "zstd",
    open: () => (info.narSize <= AT_ONCE_BYTES_MAX ? compressedAtOnce(open()) : compressZstd(open())),
  };
}

/** The same upload from memory: what it reads from the store is read now. For NARs of `AT_ONCE_BYTES_MAX` at most. */
export async function readUpload(upload: Upload): Promise<Upload> {
  const bytes = await collect(upload.open(), 2 * AT_ONCE_BYTES_MAX);
  return { ...upload, whole: bytes, open: () => streamOf(bytes) };
}

/**
 * Sends a path from the store to the server; its references must be there before. Resolves when the server offers it.
 * Throws `UploadRefusedError` and what the daemon throws.
 */
export async function pushPath(
  info: DaemonPathInfo,
  source: PushSource & { readonly target: "source" | "output"; readonly link: AttemptLink },
): Promise<void> {
  await source.link.pushNar(await uploadOf(info, source));
}

/** One connection that several readers may want: the first gets it. */
export class LentConnection {
  readonly #connection: DaemonConnection;
  #taken = false;

  constructor(connection: DaemonConnection) {
    this.#connection = connection;
  }

  take(): DaemonConnection | null {
    if (this.#taken || !this.#connection.usable) return null;
    this.#taken = true;
    return this.#connection;
  }

  giveBack(): void {
    this.#taken = false;
  }
}

async function* compressedAtOnce(nar: ByteStream): AsyncGenerator<Uint8Array> {
  yield compressZstdAtOnce(await collect(nar, AT_ONCE_BYTES_MAX));
}

async function* readStored(
  info: DaemonPathInfo,
  { pool, settings, lent }: PushSource,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const own = lent?.take();
  if (own) {
    try {
      yield* own.narFromPath(info, { signal });
    } finally {
      lent?.giveBack();
    }
    return;
  }
  const borrowed = Promise.withResolvers<DaemonConnection>();
  const finished = Promise.withResolvers<void>();
  const use = pool.use(
    (connection) => {
      borrowed.resolve(connection);
      return finished.promise;
    },
    { signal, settings },
  );
  use.catch(borrowed.reject);
  try {
    const connection = await borrowed.promise;
    // The one that held it so far may have been closed.
    await connection.addTempRoot(info.path);
    yield* connection.narFromPath(info, { signal });
  } finally {
    finished.resolve();
    await use.catch(() => {});
  }
}
