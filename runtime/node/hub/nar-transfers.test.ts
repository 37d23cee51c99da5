import { expect, test } from "vitest";
import type { BlobStore } from "#core/ports/blob-store.ts";
import { withHub } from "#test/support/hub.ts";

/** A store that cannot even begin: its disk is full, or it has no files left. */
const failing: BlobStore = {
  put: () => Promise.reject(new Error("ENOSPC: no space left on device")),
  get: () => Promise.resolve(null),
  head: () => Promise.resolve(null),
  delete: () => Promise.resolve(),
};

test("an upload that cannot be stored is refused for now, and its sender waits for nothing", async () => {
  await using bench = await withHub({ blobs: failing });
  const worker = await bench.registered();
  const { output } = await bench.addBuild("thing");
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await worker.next("assign_job");
  const stream = worker.connection.openStream();
  const info = { path: output, nar_hash: "0".repeat(64), nar_size: 5e6, references: [], deriver: null, ca: null };
  const question = { upload: 1, attempt, target: "output", info, compression: "none" } as const;
  worker.send({ type: "nar_push", ...question, stream: stream.id });

  // Five windows: without word from the server it would wait for credit.
  const sending = stream.write(new Uint8Array(5 * 1024 * 1024)).catch((error: Error) => error.message);

  expect(await worker.next("nar_refused")).toMatchObject({ upload: 1, retry: true });
  expect(await sending).toContain("stopped");
});
