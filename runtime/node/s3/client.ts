import { S3Client } from "@aws-sdk/client-s3";
import type { S3Settings } from "./settings.ts";

/** Beside those that readers of large objects hold. */
const CONNECTIONS_MAX = 256;
const CONNECT_MS_MAX = 5_000;
/** From a request's first byte to its answer's first: a part of an upload at the least at 140 KB/s. */
const ANSWER_MS_MAX = 60_000;
const ATTEMPTS_MAX = 4;

export interface S3ClientOptions {
  readonly answerMsMax?: number;
}

/** Failures that pass are tried again by the client itself. */
export function createS3Client(settings: S3Settings, { answerMsMax = ANSWER_MS_MAX }: S3ClientOptions = {}): S3Client {
  const { region, endpoint, credentials, virtualHosted } = settings;
  return new S3Client({
    region,
    ...(endpoint !== null && { endpoint }),
    ...(credentials && { credentials }),
    forcePathStyle: !virtualHosted,
    maxAttempts: ATTEMPTS_MAX,
    // Checksums in trailers are refused by older servers that speak S3; a body's hash is part of its signature anyway.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: {
      connectionTimeout: CONNECT_MS_MAX,
      requestTimeout: answerMsMax,
      throwOnRequestTimeout: true,
      // Bodies have a watch of their own, which does not count the time that their reader takes.
      socketTimeout: 0,
      httpAgent: { keepAlive: true, maxSockets: CONNECTIONS_MAX },
      httpsAgent: { keepAlive: true, maxSockets: CONNECTIONS_MAX },
    },
  });
}
