import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { type RunningRadosgw, startRadosgw } from "./radosgw-start.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** A socket that answers with a `RadosgwAddress` as JSON, or with `{ error }`. */
    radosgwBroker: string;
  }
}

/** One S3 server a run, Ceph's, started when the first test asks for a bucket. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "gradient-s3-"));
  let starting: Promise<RunningRadosgw> | null = null;
  const broker = createServer((socket) => {
    socket.on("error", () => {});
    starting ??= startRadosgw(folder);
    starting.then(
      ({ address }) => socket.end(JSON.stringify(address)),
      (error: unknown) => socket.end(JSON.stringify({ error: String(error) })),
    );
  });
  const path = join(folder, "broker");
  const listening = Promise.withResolvers<void>();
  broker.once("error", listening.reject).listen(path, listening.resolve);
  await listening.promise;
  project.provide("radosgwBroker", path);
  return async () => {
    broker.close();
    await starting?.then(
      (running) => running.stop(),
      () => {},
    );
    await rm(folder, { recursive: true, force: true });
  };
}
