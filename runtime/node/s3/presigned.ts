import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  S3ServiceException,
} from "@aws-sdk/client-s3";
import type { PresignedAccess } from "#core/ports/blob-store.ts";
import { assertKeyPrefix } from "#core/ports/object-key.ts";
import { type PresignedRequest, presignS3 } from "#core/services/s3-presign.ts";
import type { S3Bucket } from "./bucket.ts";
import { isAbsent, storageFailure } from "./errors.ts";
import { bucketUrl } from "./settings.ts";

/** Of S3. */
const LIMITS = { partBytesMin: 5 * 1024 ** 2, partBytesMax: 5 * 1024 ** 3, partsMax: 10_000 };

export function presignedAccess(bucket: S3Bucket): PresignedAccess {
  const { client, settings } = bucket;
  const base = bucketUrl(settings);
  const sign = async (key: string, request: Omit<PresignedRequest, "url">): Promise<string> => {
    const url = `${base}/${bucket.at(key).Key}`;
    // Asked for each time: those of an instance's role end.
    const credentials = await client.config.credentials();
    return await presignS3(credentials, { region: settings.region, now: new Date() }, { ...request, url });
  };
  return {
    ...LIMITS,
    readUrl: (key, lifetimeMs) => sign(key, { method: "GET", lifetimeMs }),
    writeUrl: (key, size, lifetimeMs) =>
      sign(key, { method: "PUT", headers: { "content-length": String(size) }, lifetimeMs }),
    partUrl: (key, { upload, number, size }, lifetimeMs) => {
      const query = { partNumber: String(number), uploadId: upload };
      return sign(key, { method: "PUT", query, headers: { "content-length": String(size) }, lifetimeMs });
    },
    async beginParts(key) {
      const { UploadId } = await client.send(new CreateMultipartUploadCommand(bucket.at(key))).catch(fail);
      if (UploadId === undefined) throw fail(new Error("the storage gave an upload no name"));
      return UploadId;
    },
    async finishParts(key, upload, parts) {
      const Parts = parts.map(({ number, etag }) => ({ PartNumber: number, ETag: etag }));
      try {
        const named = { ...bucket.at(key), UploadId: upload, MultipartUpload: { Parts } };
        await client.send(new CompleteMultipartUploadCommand(named));
        return true;
      } catch (error) {
        if (isAbsent(error) || isRefusedPart(error)) return false;
        throw storageFailure(error);
      }
    },
    dropParts: (key, upload) => dropParts(bucket, bucket.at(key).Key, upload),
    dropAbandonedParts: (prefix, before) => dropAbandonedParts(bucket, prefix, before),
  };
}

/** Parts that are not what was uploaded, too small, or in another order. */
function isRefusedPart(error: unknown): boolean {
  const names = ["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML", "InvalidRequest"];
  return error instanceof S3ServiceException && names.includes(error.name);
}

async function dropParts({ client, settings }: S3Bucket, Key: string, upload: string): Promise<void> {
  try {
    await client.send(new AbortMultipartUploadCommand({ Bucket: settings.bucket, Key, UploadId: upload }));
  } catch (error) {
    if (!isAbsent(error)) throw storageFailure(error);
  }
}

async function dropAbandonedParts(bucket: S3Bucket, prefix: string, before: Date): Promise<number> {
  assertKeyPrefix(prefix);
  const { client, settings } = bucket;
  const asked = { Bucket: settings.bucket, Prefix: settings.prefix + prefix };
  let dropped = 0;
  let after: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } | null = {};
  while (after) {
    const command: ListMultipartUploadsCommand = new ListMultipartUploadsCommand({ ...asked, ...after });
    const page = await client.send(command).catch(fail);
    for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
      if (Key === undefined || UploadId === undefined || Initiated === undefined || Initiated >= before) continue;
      await dropParts(bucket, Key, UploadId);
      dropped++;
    }
    after = page.IsTruncated ? { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker } : null;
  }
  return dropped;
}

function fail(error: unknown): never {
  throw storageFailure(error);
}
