import { toHex } from "#core/lib/bytes.ts";
import { defaultDaemonOptions } from "#core/nix/daemon/options.ts";
import type { NarWanted } from "#core/protocol/nar-return-messages.ts";
import { compressZstd } from "../codec.ts";
import type { DaemonPool } from "../daemon/pool.ts";
import type { SendReturn } from "../session/nar-returns.ts";
import { checkedNar } from "./checked-nar.ts";

/**
 * Sends the NAR of a path when the store has it and recorded the very hash that is wanted: a path that was built here
 * anew may have other bytes. They are hashed again as they leave, for a store may be damaged as well; then the body
 * throws before its end. Null when it was sent, else why not.
 */
export async function returnPath(
  pool: DaemonPool,
  { path, nar_hash, nar_size }: NarWanted,
  send: SendReturn,
  signal: AbortSignal,
): Promise<string | null> {
  return await pool.use(
    async (connection) => {
      // A collection of garbage that runs meanwhile leaves it alone from here on.
      await connection.addTempRoot(path);
      const info = await connection.queryPathInfo(path);
      if (!info) return "the store does not have it";
      if (toHex(info.narHash.digest) !== nar_hash || info.narSize !== nar_size) {
        return "the store has another build of it";
      }
      const wanted = { path, nar_hash, nar_size, references: [], deriver: null, ca: null };
      const body = connection.narFromPath(info, { signal });
      await send("zstd", compressZstd(checkedNar({ info: wanted, compression: "none", fileSize: null, body })));
      return null;
    },
    { signal, settings: defaultDaemonOptions },
  );
}
