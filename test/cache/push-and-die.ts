import { writeSync } from "node:fs";
import { serve } from "@hono/node-server";
import { type CompiledQuery, type DatabaseConnection, type Driver, Kysely, PostgresDialect } from "kysely";
import type { Database } from "#core/db/schema.ts";
import type { Actor } from "#core/domain/actor.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import type { ByteStream } from "#core/lib/streams.ts";
import type { BlobStore, PresignedAccess } from "#core/ports/blob-store.ts";
import { createSecretKeys } from "#core/services/cache-sign.ts";
import { UploadPlaces } from "#core/services/cache-upload-places.ts";
import { createSecretBox } from "#core/services/secret-box.ts";
import type { Upstreams } from "#core/services/upstreams.ts";
import { nodeCodec } from "#runtime/node/codec.ts";
import { openDiskBlobStore } from "#runtime/node/disk-blob-store.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import { openPool } from "#runtime/node/pool.ts";
import { openS3BlobStore } from "#runtime/node/s3/blob-store.ts";
import { createS3Client } from "#runtime/node/s3/client.ts";
import type { S3Settings } from "#runtime/node/s3/settings.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";
import { pushServer } from "./push-server.ts";

/** What a server that takes pushes is told by the test; it dies at its effect number `dieAt`. */
export interface DyingServer {
  readonly databaseUrl: string;
  readonly storage: { readonly folder: string } | { readonly s3: S3Settings };
  readonly actor: Actor;
  readonly dieAt: number;
}

const told = JSON.parse(process.argv[2] ?? "{}") as DyingServer;
let effects = 0;

/** Kills the process, as a power loss would, when it is its turn. */
function effect(name: string): void {
  if (++effects !== told.dieAt) return;
  writeSync(2, name);
  process.kill(process.pid, "SIGKILL");
}

async function around<T>(name: string, action: () => Promise<T>): Promise<T> {
  effect(`before ${name}`);
  const result = await action();
  effect(`after ${name}`);
  return result;
}

function dyingBlobs(blobs: BlobStore): BlobStore {
  const { presigned } = blobs;
  async function* dying(body: ByteStream): ByteStream {
    let first = true;
    for await (const chunk of body) {
      yield chunk;
      if (first) effect("while an object is written");
      first = false;
    }
  }
  return {
    ...blobs,
    put: (key, body) => around("an object is written", () => blobs.put(key, dying(body))),
    copy: (...given) => around("an object is copied", () => blobs.copy(...given)),
    delete: (key) => around("an object is deleted", () => blobs.delete(key)),
    ...(presigned && { presigned: dyingAccess(presigned) }),
  };
}

function dyingAccess(access: PresignedAccess): PresignedAccess {
  return {
    ...access,
    beginParts: (key) => around("parts are begun", () => access.beginParts(key)),
    finishParts: (...given) => around("parts are finished", () => access.finishParts(...given)),
    dropParts: (...given) => around("parts are dropped", () => access.dropParts(...given)),
  };
}

/** Commits, and statements that change something outside of a transaction. */
class DyingDialect extends PostgresDialect {
  override createDriver(): Driver {
    const driver = super.createDriver();
    const inside = new WeakSet<DatabaseConnection>();
    const [acquire, begin, commit] = [
      driver.acquireConnection.bind(driver),
      driver.beginTransaction.bind(driver),
      driver.commitTransaction.bind(driver),
    ];
    const known = new WeakSet<DatabaseConnection>();
    driver.acquireConnection = async (...given) => {
      const connection = await acquire(...given);
      if (known.has(connection)) return connection;
      known.add(connection);
      const execute = connection.executeQuery.bind(connection);
      connection.executeQuery = async <R>(query: CompiledQuery) => {
        const changes = !inside.has(connection) && /^\s*(?:insert|update|delete|with)\b/i.test(query.sql);
        return changes ? await around("a statement", () => execute<R>(query)) : await execute<R>(query);
      };
      return connection;
    };
    driver.beginTransaction = async (connection, settings) => {
      inside.add(connection);
      await begin(connection, settings);
    };
    driver.commitTransaction = async (connection) => {
      await around("a commit", () => commit(connection));
      inside.delete(connection);
    };
    return driver;
  }
}

async function openBlobs({ storage }: DyingServer): Promise<BlobStore> {
  if ("folder" in storage) return await openDiskBlobStore(storage.folder, { shared: true });
  return openS3BlobStore(createS3Client(storage.s3), storage.s3);
}

const pool = openPool({ url: told.databaseUrl }, { name: "dying", connectionsMax: 2 });
const secrets = await createSecretBox(utf8("0123456789abcdef"));
const uploads = {
  db: new Kysely<Database>({ dialect: new DyingDialect({ pool }) }),
  blobs: dyingBlobs(await openBlobs(told)),
  codec: nodeCodec,
  hasher: nodeHasher,
  notifier: { notify: () => {}, subscribe: () => () => {} },
  log: quietLogger,
  clock: systemClock,
  random: systemRandom,
  secretKeyOf: createSecretKeys(secrets),
  upstreams: { find: async () => ({ found: new Map(), unknown: new Set() }) } as unknown as Upstreams,
  uploadPlaces: new UploadPlaces(),
  narUploadBytesMax: 64 * 1024 * 1024,
};
serve({ fetch: pushServer(uploads, told.actor), port: 0, hostname: "127.0.0.1" }, ({ port }) => {
  process.stdout.write(`${port}\n`);
});
