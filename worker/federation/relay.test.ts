import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { type ByteStream, collect, streamOf } from "#core/lib/streams.ts";
import { STREAM_WINDOW_BYTES } from "#core/protocol/limits.ts";
import { FakeWorker } from "#test/support/fake-worker.ts";
import {
  ACME,
  ARM,
  accepting,
  assign,
  attached,
  attemptId,
  BUILT,
  behind,
  bench,
  busyWorker,
  handedBack,
  INFO,
  OTHER,
  PATH,
  start,
  streamsOf,
  told,
  useRelay,
  X86,
} from "#test/support/relay-bench.ts";
import { RELAY_BUILDS_MAX } from "./relay-limits.ts";

useRelay();

test("workers that are alike are one group, others another; never is there a union", async () => {
  const server = await attached();
  await behind();
  await behind({ groups: [{ ...X86, max_concurrent_builds: 3 }], free: 3 });
  await behind({ groups: [{ ...ARM, max_concurrent_builds: 1 }], free: 1 });

  await expect.poll(() => told(server).asked).toEqual({ 0: 5, 1: 1 });
  const organizations = [ACME, OTHER];
  expect(told(server).capabilities.groups).toEqual([
    { ...X86, max_concurrent_builds: 5, organizations },
    { ...ARM, max_concurrent_builds: 1, organizations },
  ]);
  expect(told(server).capabilities).toMatchObject({ cpu_count: 12, ram_total_mb: 12_288, attempts: null });
});

test("what can be evaluated behind a relay is told machine by machine, and keys of all that sign", async () => {
  const server = await attached();
  await behind({ extra: { max_concurrent_evaluations: 2, signing_key: "one:AAAA" } });
  const evaluation_groups = [{ fetch: true, eval: false, max_concurrent_evaluations: 3 }];
  await behind({ extra: { evaluation_groups, signing_key: "two:BBBB" } });

  await expect.poll(() => told(server).capabilities.evaluation_groups?.length).toBe(2);
  const { capabilities } = told(server);
  expect(capabilities.evaluation_groups).toMatchObject([
    { fetch: true, eval: true, max_concurrent_evaluations: 2 },
    { fetch: true, eval: false, max_concurrent_evaluations: 3 },
  ]);
  expect(capabilities.max_concurrent_evaluations).toBe(5);
  expect(capabilities.signing_keys).toEqual(["one:AAAA", "two:BBBB"]);
});

test("a job, its log, its NARs, its questions and its result pass, each side under its own numbers", async () => {
  const server = await attached();
  const worker = await behind();
  const derivations = accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  expect(await server.next("assign_job_response")).toMatchObject({ attempt, accepted: true });
  expect(await derivations.get(attempt)).toBe("drv");

  worker.send({ type: "cache_query", query: 70, attempt, paths: [PATH] });
  const { query } = await server.next("cache_query");
  server.send({ type: "cache_status", query, present: [INFO] });
  expect(await worker.next("cache_status")).toMatchObject({ query: 70, present: [INFO] });

  worker.send({ type: "nar_request", request: 80, attempt, path: PATH });
  const { request } = await server.next("nar_request");
  const nar = server.connection.openStream();
  let received: Promise<string> | null = null;
  worker.onMessage = (message) => {
    if (message.type !== "nar_offer") return;
    received = collect(worker.connection.acceptStream(message.stream), 100).then(fromUtf8);
  };
  server.send({ type: "nar_offer", request, info: INFO, compression: "none", file_size: 3, stream: nar.id });
  await nar.pipe(streamOf(utf8("nar")));
  expect(await worker.next("nar_offer")).toMatchObject({ request: 80, info: INFO });
  expect(await received).toBe("nar");

  const streams = streamsOf(server);
  const log = worker.connection.openStream();
  worker.send({ type: "log_open", attempt, offset: 0, stream: log.id });
  const output = worker.connection.openStream();
  const push = { attempt, target: "output", info: INFO, compression: "none", with_result: true } as const;
  worker.send({ type: "nar_push", upload: 90, ...push, signatures: ["one:AAAA"], stream: output.id });
  worker.send({ type: "job_result", attempt, uploads: [90], result: BUILT });
  await expect.poll(() => server.count("nar_push") + server.count("log_open")).toBe(2);
  // The log leaves before the result.
  expect(server.count("job_result")).toBe(0);
  await log.pipe(streamOf(utf8("log")));
  const pushed = await server.next("nar_push");
  expect(pushed.signatures).toEqual(["one:AAAA"]);
  expect(await server.next("job_result")).toMatchObject({ uploads: [pushed.upload], result: BUILT });
  await output.pipe(streamOf(utf8("out")));
  const bodies = await Promise.all(streams.map((stream) => collect(stream, 100)));
  expect(bodies.map(fromUtf8).sort()).toEqual(["log", "out"]);

  server.send({ type: "job_result_ack", attempt });
  expect(await worker.next("job_result_ack")).toMatchObject({ attempt });
});

test("a worker that reads nothing is held back alone, and the relay holds no more than windows of it", async () => {
  const server = await attached();
  const [slow, quick] = [await behind(), await behind({ groups: [{ ...ARM, max_concurrent_builds: 2 }] })];
  accepting(slow);
  accepting(quick);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2, 1: 2 });
  const [one, two] = [await assign(server, 1, 0), await assign(server, 2, 1)];
  await slow.next("assign_job");
  await quick.next("assign_job");

  const serve = async (worker: FakeWorker, attempt: string, bytes: number) => {
    const streams: ByteStream[] = [];
    worker.onMessage = (message) => {
      if (message.type === "nar_offer") streams.push(worker.connection.acceptStream(message.stream));
    };
    worker.send({ type: "nar_request", request: 1, attempt, path: PATH });
    const { request } = await server.next("nar_request");
    const stream = server.connection.openStream();
    server.send({ type: "nar_offer", request, info: INFO, compression: "none", file_size: bytes, stream: stream.id });
    let sent = 0;
    const sending = (async () => {
      const piece = new Uint8Array(STREAM_WINDOW_BYTES / 16);
      for (; sent < bytes; sent += piece.length) await stream.write(piece);
      await stream.end();
    })().catch(() => {});
    await worker.next("nar_offer");
    return { streams, sending, sent: () => sent };
  };
  const held = await serve(slow, one, 16 * STREAM_WINDOW_BYTES);
  const flowing = await serve(quick, two, 4 * STREAM_WINDOW_BYTES);
  const body = await collect(flowing.streams[0] as ByteStream, 8 * STREAM_WINDOW_BYTES);

  expect(body.length).toBe(4 * STREAM_WINDOW_BYTES);
  // One window on each side of the relay, and the piece in between.
  expect(held.sent()).toBeLessThanOrEqual(2.5 * STREAM_WINDOW_BYTES);
  const rest = await collect(held.streams[0] as ByteStream, 32 * STREAM_WINDOW_BYTES);
  expect(rest.length).toBe(16 * STREAM_WINDOW_BYTES);
});

test("when the server's session is lost the workers' end too, and all attempts come back on the next", async () => {
  const server = await attached();
  const workerId = randomUUID();
  const worker = await behind({ workerId });
  accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  await worker.next("assign_job");

  server.connection.close(1001, "lost");
  await worker.next("draining");
  await expect.poll(() => worker.closed).not.toBeNull();
  // It comes back before the relay has its server again, and waits.
  const back = behind({ workerId, attempts: [attempt, attemptId(9)], free: 1 });
  const next = await bench.servers.session(1);
  await next.register({ peers: [ACME, OTHER], held: { [attempt]: 17 } });

  const returned = await back;
  expect(await returned.next("attempts")).toEqual({ type: "attempts", held: [{ attempt, log_bytes: 17 }] });
  await expect.poll(() => told(next).asked).toEqual({ 0: 1 });
  returned.send({ type: "job_result", attempt, result: BUILT });
  await next.next("job_result");
});

test("workers in the middle of their handshake are sent nothing out of order when the server is lost", async () => {
  const server = await attached();
  const early = new FakeWorker((socket) => bench.relay.accept(socket));
  server.connection.close(1001, "lost");

  await expect.poll(() => early.closed).not.toBeNull();
  expect(early.received).toEqual([]);
});

test("a relay that was killed names the attempts of its workers before they are back", async () => {
  const server = await attached();
  const workerId = randomUUID();
  const worker = await behind({ workerId });
  accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  await worker.next("assign_job");
  const killed = bench.relay;
  // Its file is written at once.
  await new Promise((resolve) => setTimeout(resolve, 50));

  start();
  const next = await bench.servers.session(1);
  expect(await next.greet({ peers: [ACME, OTHER] })).toEqual([attempt]);
  next.send({ type: "attempts", held: [{ attempt, log_bytes: 5 }] });
  const returned = await behind({ workerId, attempts: [attempt], free: 1 });

  expect(await returned.next("attempts")).toMatchObject({ held: [{ attempt, log_bytes: 5 }] });
  await killed.abort();
});

test("what a worker no longer has, and what one has that does not come back, is given back", async () => {
  const server = await attached(0, { leaseMs: 300 });
  const workerId = randomUUID();
  const worker = await behind({ workerId });
  accepting(worker);
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const [one, two] = [await assign(server, 1), await assign(server, 2)];
  await expect.poll(() => server.count("assign_job_response")).toBe(2);
  worker.connection.close(1001, "lost");
  await expect.poll(() => told(server).capabilities.groups).toMatchObject([{ max_concurrent_builds: 0 }]);

  const returned = await behind({ workerId, attempts: [two], free: 1 });
  expect((await returned.next("attempts")).held).toEqual([{ attempt: two, log_bytes: 0 }]);
  await expect
    .poll(() => handedBack(server))
    .toMatchObject([{ attempt: one, reason: "its worker does not have it any more" }]);
  await expect.poll(() => told(server).asked).toEqual({ 0: 1 });

  returned.connection.close(1001, "lost");
  await expect
    .poll(() => handedBack(server))
    .toMatchObject([{ attempt: one }, { attempt: two, reason: "its worker did not come back to the relay" }]);
});

test("a worker that drains is given nothing more, and a relay that drains waits for what runs", async () => {
  const server = await attached();
  const [stays, leaves] = [await behind(), await behind()];
  accepting(stays);
  await expect.poll(() => told(server).asked).toEqual({ 0: 4 });
  leaves.send({ type: "draining" });
  await expect.poll(() => told(server).asked).toEqual({ 0: 2 });
  const attempt = await assign(server, 1);
  await stays.next("assign_job");

  const drained = bench.relay.drain();
  await server.next("draining");
  await assign(server, 2);
  await expect
    .poll(() => handedBack(server))
    .toMatchObject([{ attempt: attemptId(2), reason: "the relay is draining" }]);
  stays.send({ type: "job_result", attempt, result: BUILT });
  await server.next("job_result");
  server.send({ type: "job_result_ack", attempt });
  await stays.next("job_result_ack");

  await drained;
  await bench.running;
  expect(await stays.next("draining")).toEqual({ type: "draining" });
});

test("a relay that is told to stop at once hands back what is behind it, and its workers stop it", async () => {
  const server = await attached();
  const { worker, attempt } = await busyWorker(server);

  await bench.relay.abort();
  await bench.running;

  expect(await worker.next("abort_job")).toMatchObject({ attempt, reason: "the relay is stopping" });
  await expect.poll(() => handedBack(server)).toMatchObject([{ attempt, reason: "the relay is stopping" }]);
});

test("a relay offers no more builds than a session has streams for, and fills no more", async () => {
  const server = await attached();
  const places = 100;
  await behind({ groups: [{ ...X86, max_concurrent_builds: places }], free: places });
  await behind({ groups: [{ ...ARM, max_concurrent_builds: places }], free: places });

  await expect.poll(() => told(server).asked).toEqual({ 0: places, 1: RELAY_BUILDS_MAX - places });
  const { groups } = told(server).capabilities;
  expect(groups.map((group) => group.max_concurrent_builds)).toEqual([places, RELAY_BUILDS_MAX - places]);
});

test("an abort of the server reaches the worker that has the attempt", async () => {
  const server = await attached();
  const { worker, attempt } = await busyWorker(server);
  server.send({ type: "abort_job", attempt, reason: "somebody said so" });

  expect(await worker.next("abort_job")).toEqual({ type: "abort_job", attempt, reason: "somebody said so" });
});
