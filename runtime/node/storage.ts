import { join } from "node:path";
import type { BlobStore } from "#core/ports/blob-store.ts";
import type { Config } from "./config.ts";
import { openDiskBlobStore } from "./disk-blob-store.ts";
import { movingBlobStore } from "./moving-blob-store.ts";
import { bucketUrl, type S3Settings } from "./s3/settings.ts";
import { nameSharedStorage } from "./shared-storage.ts";

export interface Storage {
  readonly blobs: BlobStore;
  /** What all servers of one database must agree on, in words; null: nobody else can reach this storage. */
  readonly sharedName: string | null;
  close(): void;
}

type StorageConfig = Pick<Config, "basePath" | "storage">;

/** What the configuration says, beginning with the store that new objects go to. Throws with words for the operator. */
export async function openStorage(config: StorageConfig): Promise<Storage> {
  const { s3, movingTo } = config.storage;
  const disk = s3 === null || movingTo !== null ? await openDisk(config) : null;
  const bucket = s3 && (await openBucket(s3));
  const [first, second] = movingTo === "disk" ? [disk, bucket] : [bucket ?? disk, bucket && disk];
  if (!first) throw new Error("there is no storage");
  return {
    blobs: second ? movingBlobStore(first.blobs, second.blobs) : first.blobs,
    sharedName: nameOf(second ? [first, second] : [first]),
    close: () => bucket?.close(),
  };
}

/** Both ends of a move, each by itself. Throws with words for the operator when none is configured. */
export async function openBothStorages(config: StorageConfig): Promise<{ from: Storage; to: Storage }> {
  const { s3, movingTo } = config.storage;
  if (!s3 || !movingTo) {
    throw new Error("no move is configured: set GRADIENT_S3_BUCKET, and GRADIENT_STORAGE_MOVING_TO to s3 or disk");
  }
  const disk = await openDisk(config);
  const bucket = await openBucket(s3);
  return movingTo === "s3" ? { from: disk, to: bucket } : { from: bucket, to: disk };
}

async function openDisk({ basePath, storage: { sharedPath, movingTo, proxyPath } }: StorageConfig): Promise<Storage> {
  const sharedName = sharedPath === null ? null : await nameSharedStorage(sharedPath);
  // The command that moves objects writes beside the server.
  const options = { shared: sharedPath !== null || movingTo !== null, groupReadable: proxyPath !== null };
  return { blobs: await openDiskBlobStore(sharedPath ?? join(basePath, "storage"), options), sharedName, close() {} };
}

/** The client is loaded where there is a bucket: elsewhere it would take 25 MB for nothing. */
async function openBucket(s3: S3Settings): Promise<Storage> {
  const [{ createS3Client }, { openS3BlobStore }] = await Promise.all([
    import("./s3/client.ts"),
    import("./s3/blob-store.ts"),
  ]);
  const client = createS3Client(s3);
  return {
    blobs: openS3BlobStore(client, s3),
    sharedName: `the bucket ${bucketUrl(s3)}/${s3.prefix}`,
    close: () => client.destroy(),
  };
}

function nameOf(storages: readonly Storage[]): string | null {
  const names = storages.map(({ sharedName }) => sharedName);
  return names.includes(null) ? null : names.join(" and ");
}
