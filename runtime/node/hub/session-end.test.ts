import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { withHub } from "#test/support/hub.ts";

test("a server that stops sends nothing out of order to workers in the middle of their handshake", async () => {
  await using bench = await withHub();
  const added = async (): Promise<FakeWorker> => {
    const workerId = randomUUID();
    await bench.addRegistration(workerId);
    return bench.worker({ workerId, tokens: { [bench.organizationId]: `token of ${workerId}` } });
  };
  const [silent, challenged, authorized] = [await added(), await added(), await added()];
  challenged.hello();
  await challenged.next("auth_challenge");
  await authorized.authenticate();
  await authorized.next("init_ack");

  await bench.hub.close();

  const workers = [silent, challenged, authorized];
  await expect.poll(() => workers.map(({ closed }) => closed)).toEqual(Array(3).fill("the server is stopping"));
  const told = workers.map(({ received }) => received.map(({ type }) => type));
  expect(told).toEqual([[], ["auth_challenge"], ["auth_challenge", "init_ack"]]);
});
