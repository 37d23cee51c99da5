import { Kysely, PostgresDialect } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { sha256 } from "#core/nix/hash.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { receiveNar } from "#core/services/nar-receive.ts";
import { nodeCodec } from "#runtime/node/codec.ts";
import { openDiskBlobStore } from "#runtime/node/disk-blob-store.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import { openPool } from "#runtime/node/pool.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";

/** Receives the NAR on standard input and is killed at one moment: `receive-and-die.ts URL FOLDER MOMENT`. */
const [url = "", folder = "", moment = ""] = process.argv.slice(2);
const db = new Kysely<Database>({
  dialect: new PostgresDialect({ pool: openPool({ url }, { name: "dying", connectionsMax: 2 }) }),
});
const die = () => process.kill(process.pid, "SIGKILL");

const disk = await openDiskBlobStore(folder);
const blobs: BlobStore = {
  ...disk,
  async put(key, body) {
    async function* dying() {
      for await (const chunk of body) {
        yield chunk;
        if (moment === "during the put") die();
      }
    }
    const stored = await disk.put(key, dying());
    if (moment === "after the put") die();
    return stored;
  },
};

const nar = await collect(process.stdin, 2 ** 30);
await receiveNar(
  {
    db,
    blobs,
    codec: nodeCodec,
    hasher: nodeHasher,
    notifier: { notify: () => {}, subscribe: () => () => {} },
    log: quietLogger,
    clock: systemClock,
    random: systemRandom,
  },
  {
    narHash: { algorithm: "sha256", digest: await sha256(nar) },
    narSize: nar.length,
    compression: "none",
    body: streamOf(nar),
  },
);
die();
