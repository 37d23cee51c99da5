import { expect, test } from "vitest";
import { fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import type { FakeServer } from "#test/support/fake-server.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { ACME, attached, behind, OTHER, PATH, useRelay } from "#test/support/relay-bench.ts";

useRelay();

const WANTED = { path: PATH, nar_hash: "0".repeat(64), nar_size: 3 };
const returning = { extra: { returns_nars: true } } as const;

function ask(server: FakeServer, want: number, organization = ACME): void {
  server.send({ type: "nar_wanted", want, organization, ...WANTED });
}

function accepting(server: FakeServer): Promise<string>[] {
  const bodies: Promise<string>[] = [];
  server.onMessage = (message) => {
    if (message.type !== "nar_return") return;
    bodies.push(collect(server.connection.acceptStream(message.stream), 1e7).then(fromUtf8));
  };
  return bodies;
}

async function send(worker: FakeWorker, text: string): Promise<void> {
  const { want } = await worker.next("nar_wanted");
  const stream = worker.connection.openStream();
  worker.send({ type: "nar_return", want, compression: "zstd", stream: stream.id });
  await stream.pipe(streamOf(utf8(text)));
}

test("a relay asks those behind it that work for the organization, and passes on what one of them has", async () => {
  const server = await attached();
  const bodies = accepting(server);
  const [has, lacks] = [await behind(returning), await behind(returning)];
  const others = [await behind({ ...returning, organizations: [OTHER] }), await behind()];
  ask(server, 7);
  lacks.send({ type: "nar_absent", want: (await lacks.next("nar_wanted")).want, reason: "no" });
  await send(has, "the NAR");

  expect(await server.next("nar_return")).toMatchObject({ want: 7, compression: "zstd" });
  expect(await bodies[0]).toBe("the NAR");
  expect(others.map((worker) => worker.count("nar_wanted"))).toEqual([0, 0]);
});

test("of two that have it one is heard, and the other is stopped", async () => {
  const server = await attached();
  const bodies = accepting(server);
  const workers = [await behind(returning), await behind(returning)];
  ask(server, 1);
  const sent = await Promise.allSettled(workers.map((worker) => send(worker, "x".repeat(3_000_000))));
  expect(sent.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  expect((await bodies[0])?.length).toBe(3_000_000);
  expect(bodies).toHaveLength(1);
});

test("when none has it, or there is none, the relay says so", async () => {
  const server = await attached();
  ask(server, 1);
  expect(await server.next("nar_absent")).toMatchObject({ want: 1, reason: "no worker behind this relay has it" });
  const worker = await behind(returning);
  ask(server, 2);
  worker.send({ type: "nar_absent", want: (await worker.next("nar_wanted")).want, reason: "no" });
  expect(await server.next("nar_absent")).toMatchObject({ want: 2 });
  ask(server, 3);
  await worker.next("nar_wanted");
  worker.connection.close(1001, "gone");
  expect(await server.next("nar_absent")).toMatchObject({ want: 3 });
});
