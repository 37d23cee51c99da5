import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { delimiter, join } from "node:path";
import { text } from "node:stream/consumers";
import { CreateBucketCommand } from "@aws-sdk/client-s3";
import { inject } from "vitest";
import { createS3Client } from "#runtime/node/s3/client.ts";
import type { S3Settings } from "#runtime/node/s3/settings.ts";
import { toolPath } from "#scripts/tools.ts";
import type { RadosgwAddress } from "./radosgw-start.ts";

const PROGRAMS = ["radosgw", "ceph-mon", "ceph-osd", "ceph"];

/** For `test.skipIf(!radosgwAvailable())`. */
export function radosgwAvailable(): boolean {
  const folders = toolPath().split(delimiter);
  return PROGRAMS.every((name) => folders.some((folder) => existsSync(join(folder, name))));
}

/** An empty bucket of the run's S3 server, which goes with the run. */
export async function withBucket(): Promise<S3Settings> {
  const answer = JSON.parse(await text(connect(inject("radosgwBroker")))) as RadosgwAddress | { error: string };
  if ("error" in answer) throw new Error(`no S3 for tests: ${answer.error}`);
  const { endpoint, ...credentials } = answer;
  const bucket = `test-${randomUUID()}`;
  const settings: S3Settings = {
    bucket,
    region: "us-east-1",
    endpoint,
    credentials,
    prefix: "",
    virtualHosted: false,
  };
  const client = createS3Client(settings);
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
  return settings;
}
