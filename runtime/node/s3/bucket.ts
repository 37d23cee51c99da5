import { HeadObjectCommand, type S3Client } from "@aws-sdk/client-s3";
import { assertObjectKey } from "#core/ports/object-key.ts";
import { isAbsent, storageFailure } from "./errors.ts";
import type { S3Settings } from "./settings.ts";

/** A bucket as the parts of the store share it. */
export class S3Bucket {
  readonly client: S3Client;
  readonly settings: S3Settings;
  /** Until the server says that it does not. */
  knowsConditions = true;

  constructor(client: S3Client, settings: S3Settings) {
    this.client = client;
    this.settings = settings;
  }

  /** Names an object in a command; throws for what is no key. */
  at(key: string): { readonly Bucket: string; readonly Key: string } {
    assertObjectKey(key);
    return { Bucket: this.settings.bucket, Key: this.settings.prefix + key };
  }

  async head(key: string): Promise<{ readonly size: number; readonly version?: string } | null> {
    const at = this.at(key);
    try {
      const { ContentLength, ETag } = await this.client.send(new HeadObjectCommand(at));
      if (ContentLength === undefined) throw new Error("the storage did not say how large an object is");
      return { size: ContentLength, ...(ETag !== undefined && { version: ETag }) };
    } catch (error) {
      if (isAbsent(error)) return null;
      throw storageFailure(error);
    }
  }
}
