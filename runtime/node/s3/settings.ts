/** Which bucket holds the objects, and how it is reached. */
export interface S3Settings {
  readonly bucket: string;
  readonly region: string;
  /** Null: Amazon's own. */
  readonly endpoint: string | null;
  /** Null: what the machine brings, such as the role of its instance. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string } | null;
  /** Before every key; empty, or ends with a slash. */
  readonly prefix: string;
  /** Whether the bucket is part of the host's name and not of the path. */
  readonly virtualHosted: boolean;
}

/** The bucket's own address, without a slash at its end. */
export function bucketUrl({ bucket, region, endpoint, virtualHosted }: S3Settings): string {
  const url = new URL(endpoint ?? `https://s3.${region}.amazonaws.com`);
  if (virtualHosted) url.host = `${bucket}.${url.host}`;
  else url.pathname = `${url.pathname.replace(/\/$/, "")}/${bucket}`;
  return url.href.replace(/\/$/, "");
}
