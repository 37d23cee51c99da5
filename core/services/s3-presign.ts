import { AwsV4Signer } from "aws4fetch";
import { assert } from "../lib/assert.ts";

export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** One request that a URL is to allow. */
export interface PresignedRequest {
  readonly method: "GET" | "PUT";
  /** Without a query of its own but what `query` says. */
  readonly url: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Must come with the request, to the letter. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly lifetimeMs: number;
}

/** Of S3: a week. */
const LIFETIME_SECONDS_MAX = 604_800;

/** A URL with a signature of AWS version 4 in its query: whoever has it may send this one request until it ends. */
export async function presignS3(
  { accessKeyId, secretAccessKey, sessionToken }: S3Credentials,
  { region, now }: { readonly region: string; readonly now: Date },
  request: PresignedRequest,
): Promise<string> {
  const seconds = Math.ceil(request.lifetimeMs / 1_000);
  assert(seconds >= 1 && seconds <= LIFETIME_SECONDS_MAX, "a URL ends within a week");
  const url = new URL(request.url);
  for (const [name, value] of Object.entries(request.query ?? {})) url.searchParams.set(name, value);
  url.searchParams.set("X-Amz-Expires", String(seconds));
  const signer = new AwsV4Signer({
    method: request.method,
    url: url.href,
    headers: { ...request.headers },
    // Also those that a proxy might change, such as the length: that is what they are signed for.
    allHeaders: true,
    accessKeyId,
    secretAccessKey,
    ...(sessionToken !== undefined && { sessionToken }),
    service: "s3",
    region,
    signQuery: true,
    // As ISO 8601 without its marks: 20260101T000000Z.
    datetime: now.toISOString().replace(/[:-]|\.\d{3}/g, ""),
  });
  return (await signer.sign()).url.href;
}
