import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  UploadPartCopyCommand,
} from "@aws-sdk/client-s3";
import type { S3Bucket } from "./bucket.ts";
import { alreadyExists, isAbsent, isConditionFailed, storageFailure } from "./errors.ts";

/** S3 copies up to 5 GiB at a time; a part of 1 GiB takes some seconds. */
const PART_BYTES = 1024 ** 3;

export interface Copying {
  readonly from: string;
  readonly to: string;
  readonly version?: string | undefined;
  /** Larger objects are copied in parts of this size. */
  readonly partBytes?: number;
}

/** Within the bucket, as `BlobStore.copy` says. */
export async function copyObject(
  bucket: S3Bucket,
  { from, to, version, partBytes = PART_BYTES }: Copying,
): Promise<{ size: number } | null> {
  const target = bucket.at(to);
  const source = await bucket.head(from);
  if (!source || (version !== undefined && source.version !== version)) return null;
  if (await bucket.head(to)) throw alreadyExists();
  const { Bucket, Key } = bucket.at(from);
  const CopySource = `${Bucket}/${Key.split("/").map(encodeURIComponent).join("/")}`;
  // What was looked at is what is copied, or nothing is.
  const origin = { CopySource, ...(source.version !== undefined && { CopySourceIfMatch: source.version }) };
  try {
    if (source.size <= partBytes) await bucket.client.send(new CopyObjectCommand({ ...target, ...origin }));
    else await copyParts(bucket, { target, origin, size: source.size, partBytes });
    return { size: source.size };
  } catch (error) {
    if (isAbsent(error) || isConditionFailed(error)) return null;
    throw storageFailure(error);
  }
}

interface PartsToCopy {
  readonly target: { readonly Bucket: string; readonly Key: string };
  readonly origin: { readonly CopySource: string; readonly CopySourceIfMatch?: string };
  readonly size: number;
  readonly partBytes: number;
}

async function copyParts({ client }: S3Bucket, { target, origin, size, partBytes }: PartsToCopy): Promise<void> {
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(target));
  const named = { ...target, UploadId };
  try {
    const parts: { ETag: string | undefined; PartNumber: number }[] = [];
    for (let start = 0; start < size; start += partBytes) {
      const range = { CopySourceRange: `bytes=${start}-${Math.min(start + partBytes, size) - 1}` };
      const PartNumber = parts.length + 1;
      const { CopyPartResult } = await client.send(
        new UploadPartCopyCommand({ ...named, ...origin, ...range, PartNumber }),
      );
      parts.push({ ETag: CopyPartResult?.ETag, PartNumber });
    }
    await client.send(new CompleteMultipartUploadCommand({ ...named, MultipartUpload: { Parts: parts } }));
  } catch (error) {
    await client.send(new AbortMultipartUploadCommand(named)).catch(() => {});
    throw error;
  }
}
