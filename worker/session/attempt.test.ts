import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { type ByteStream, collect, streamOf } from "#core/lib/streams.ts";
import { socketPair } from "#core/protocol/memory-socket.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { storePath } from "#test/support/derivations.ts";
import { FakeServer } from "#test/support/fake-server.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { AttemptEndedError, PathUnavailableError, type Upload, UploadRefusedError } from "../link.ts";
import { Attempt } from "./attempt.ts";
import { LiveSession } from "./live-session.ts";

const ATTEMPT = "01890000-0000-7000-8000-00000000000a";
const PATH = storePath("/nix/store/00000000000000000000000000000000-thing");
const INFO = { path: PATH, nar_hash: "0".repeat(64), nar_size: 3, references: [], deriver: null, ca: null };
const BUILT: BuildResult = { kind: "build", status: "built", outputs: [], failure: null, build_ms: 1 };

let folder: TemporaryFolder;
let attempt: Attempt;
let current: LiveSession | null;
let waiting: (() => void)[];
/** How long the attempt paused, each time. */
let pauses: number[];
/** Shorter ones are those in which a log gathers. */
const RETRY_MS_MIN = 1_000;

beforeEach(async () => {
  folder = await withTemporaryFolder();
  current = null;
  waiting = [];
  pauses = [];
  attempt = new Attempt({
    onBuilderEnded: () => {},
    attemptId: ATTEMPT,
    spoolPath: join(folder.path, "spool"),
    session: async (signal) => {
      for (;;) {
        signal.throwIfAborted();
        if (current && !current.lost) return current;
        await new Promise<void>((resolve) => {
          waiting.push(resolve);
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
      }
    },
    pause: async (ms) => {
      if (ms >= RETRY_MS_MIN) pauses.push(ms);
    },
  });
});

afterEach(async () => {
  await attempt.close();
  await folder[Symbol.asyncDispose]();
});

/** A new session, in which the server has `logBytes` of the log. */
function connect(logBytes = 0): FakeServer {
  const [mine, theirs] = socketPair(systemClock);
  const server = new FakeServer(theirs);
  current = new LiveSession({
    socket: mine,
    clock: systemClock,
    silenceTimeoutMs: 60_000,
    onMessage: () => {},
    onClose: () => {},
  });
  attempt.attach(current, logBytes);
  for (const resolve of waiting.splice(0)) resolve();
  return server;
}

function upload(parts: readonly string[], opened: () => void = () => {}): Upload {
  const open = (): ByteStream => {
    opened();
    return streamOf(...parts.map(utf8));
  };
  return { target: "output", info: INFO, compression: "none", open };
}

/** Accepts bodies as they are announced, by the type of the message. */
function accepting(server: FakeServer): { type: string; body: Promise<string> }[] {
  const bodies: { type: string; body: Promise<string> }[] = [];
  server.onMessage = (message) => {
    const stream = "stream" in message ? message.stream : message.type === "eval_batch" ? message.content.stream : null;
    if (stream === null) return;
    const body = collect(server.connection.acceptStream(stream), 1e6).then(fromUtf8);
    body.catch(() => {});
    bodies.push({ type: message.type, body });
  };
  return bodies;
}

test("a question whose session is lost is asked again on the next one", async () => {
  const first = connect();
  const answer = attempt.queryCache([PATH]);
  await first.next("cache_query");
  first.connection.close(1001, "lost");

  await expect.poll(() => current?.lost).toBe(true);
  const second = connect();
  const { query, paths } = await second.next("cache_query");
  second.send({ type: "cache_status", query, present: [INFO] });

  expect(paths).toEqual([PATH]);
  expect(await answer).toEqual([INFO]);
});

test("a result is sent until it is acknowledged, over as many sessions as that takes", async () => {
  const finished = attempt.finish(BUILT);
  for (let i = 0; i < 3; i++) {
    const server = connect();
    expect(await server.next("job_result")).toMatchObject({ attempt: ATTEMPT, result: { status: "built" } });
    server.connection.close(1001, "lost");
    await expect.poll(() => current?.lost).toBe(true);
  }
  const last = connect();
  await last.next("job_result");
  last.send({ type: "job_result_ack", attempt: ATTEMPT });

  await finished;
  expect(last.count("job_result")).toBe(1);
});

test("a log goes on where the server's copy ends, and has left before the result is sent", async () => {
  const first = connect();
  const early = accepting(first);
  attempt.log(utf8("one\ntwo\n"));
  await first.next("log_open");
  await expect.poll(() => early.length).toBe(1);
  first.connection.close(1001, "lost");
  await expect.poll(() => current?.lost).toBe(true);

  attempt.log(utf8("three\n"));
  const second = connect(4);
  const bodies = accepting(second);
  await second.next("log_open");
  const accept = second.onMessage;
  let arrived = "";
  void bodies[0]?.body.then((text) => {
    arrived = text;
  });
  let arrivedBeforeResult = "";
  second.onMessage = (message) => {
    accept(message);
    if (message.type === "job_result") arrivedBeforeResult = arrived;
  };
  attempt.log(utf8("x".repeat(500_000)));
  const finished = attempt.finish(BUILT);
  await second.next("job_result");
  second.send({ type: "job_result_ack", attempt: ATTEMPT });
  await finished;

  expect(second.received[0]).toMatchObject({ type: "log_open", offset: 4 });
  expect(arrivedBeforeResult).toBe(`two\nthree\n${"x".repeat(500_000)}`);
});

test("an upload whose session is lost is sent again from its beginning", async () => {
  let opened = 0;
  const pushed = attempt.pushNar(upload(["abc", "def"], () => opened++));
  const first = connect();
  await first.next("nar_push");
  first.connection.close(1001, "lost");
  await expect.poll(() => current?.lost).toBe(true);

  const second = connect();
  const bodies = accepting(second);
  const { upload: id } = await second.next("nar_push");
  expect(await bodies[0]?.body).toBe("abcdef");
  second.send({ type: "nar_committed", upload: id });

  await pushed;
  expect(opened).toBe(2);
});

test("an upload that the server refuses for good is not sent again", async () => {
  const server = connect();
  accepting(server);
  const pushed = attempt.pushNar(upload(["abc"]));
  const { upload: id } = await server.next("nar_push");
  server.send({ type: "nar_refused", upload: id, message: "the NAR has another hash", retry: false });

  await expect(pushed).rejects.toThrow(new UploadRefusedError("the NAR has another hash"));
  expect(server.count("nar_push")).toBe(1);
});

test("a server that cannot answer is asked again after growing pauses, and the log says why it waits", async () => {
  const server = connect();
  const bodies = accepting(server);
  const pushed = attempt.pushNar(upload(["abc"]));
  for (let i = 0; i < 7; i++) {
    const { upload: id } = await server.next("nar_push");
    server.send({ type: "nar_refused", upload: id, message: "the server could not store it", retry: true });
  }
  const { upload: id } = await server.next("nar_push");
  server.send({ type: "nar_committed", upload: id });
  await pushed;

  expect(pauses).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  const finished = attempt.finish(BUILT);
  await server.next("job_result");
  server.send({ type: "job_result_ack", attempt: ATTEMPT });
  await finished;
  const log = await bodies.find(({ type }) => type === "log_open")?.body;
  expect(log).toBe(
    `[gradient: waiting for the server, which is asked again: the upload of ${PATH}: the server could not store it]\n`,
  );
});

test.each([
  ["a query", () => attempt.queryCache([PATH])],
  ["a fetch", () => attempt.fetchNar(PATH)],
  ["an upload", () => attempt.pushNar(upload(["abc"]))],
  ["a batch", () => attempt.sendBatch({ nodes: [], entryPoints: [] })],
  ["a result", () => attempt.finish(BUILT)],
])("%s that waits for its answer, or for a session, ends when the attempt does", async (_, ask) => {
  const withoutSession = ask();
  const early = expect(withoutSession).rejects.toThrow(new AttemptEndedError("the build was aborted"));
  const server = connect();
  await expect.poll(() => server.received.length).toBeGreaterThan(0);

  attempt.end("the build was aborted");

  await early;
  await expect(ask()).rejects.toThrow(new AttemptEndedError("the build was aborted"));
});

test("a body that is on its way when the attempt ends is given up, and lets go of its source", async () => {
  const server = connect();
  // Nobody reads it: the sender waits for credit.
  server.onMessage = (message) => {
    if (message.type === "nar_push") server.connection.acceptStream(message.stream);
  };
  let isOpen = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    isOpen = true;
    try {
      for (;;) yield new Uint8Array(64 * 1024);
    } finally {
      isOpen = false;
    }
  }
  const pushed = attempt.pushNar({ ...upload([]), open: endless });
  await server.next("nar_push");
  expect(isOpen).toBe(true);

  attempt.end("the build was aborted");

  await expect(pushed).rejects.toThrow("the build was aborted");
  await expect.poll(() => isOpen).toBe(false);
  expect(server.closed).toBeNull();
});

test("a NAR that arrives after the attempt has ended is sent back, and holds none of the server's places", async () => {
  const server = connect();
  const fetched = attempt.fetchNar(PATH);
  fetched.catch(() => {});
  const { request } = await server.next("nar_request");
  attempt.end("the build was aborted");
  const stream = server.connection.openStream();
  server.send({ type: "nar_offer", request, info: INFO, compression: "none", file_size: 1e7, stream: stream.id });

  await expect(stream.pipe(streamOf(new Uint8Array(10_000_000)))).rejects.toThrow("stopped");
});

test("a path that no cache has is an error of its own", async () => {
  const server = connect();
  const fetched = attempt.fetchNar(PATH);
  const { request } = await server.next("nar_request");
  server.send({ type: "nar_unavailable", request, reason: "no cache has it", retry: false });

  await expect(fetched).rejects.toThrow(new PathUnavailableError(PATH, "no cache has it"));
});

test("what the protocol has no room for fails by itself, and the session goes on", async () => {
  const server = connect();
  const references = Array.from({ length: 10_001 }, () => PATH);
  const pushed = attempt.pushNar({ ...upload(["abc"]), info: { ...INFO, references } });

  await expect(pushed).rejects.toThrow(/nar_push: .*(?:more than 10000 items|bytes long)/);
  expect(server.closed).toBeNull();
});

test("messages are sent again on the next session, in their order, and with each phase goes the commit", async () => {
  const first = connect();
  attempt.phase("fetching", { message: "Fix it", author: "Ada" });
  attempt.phase("evaluating_flake");
  attempt.message({ level: "warning", text: "one", source: "evaluation", attribute: null });
  attempt.message({ level: "error", text: "two", source: "evaluation", attribute: ["a", "b.c"] });
  await first.next("job_update");
  first.connection.close(1001, "lost");
  await expect.poll(() => current?.lost).toBe(true);

  const second = connect();
  await second.next("eval_message");
  await second.next("eval_message");

  expect(second.received).toMatchObject([
    { type: "job_update", phase: "evaluating_flake", commit: { message: "Fix it", author: "Ada" } },
    { type: "eval_message", sequence: 0, message: "one" },
    { type: "eval_message", sequence: 1, message: "two", attribute: ["a", "b.c"] },
  ]);
});

test("of too many messages the last one says how many are not shown", async () => {
  const server = connect();
  for (let i = 0; i < 2_500; i++) {
    attempt.message({ level: "error", text: `error ${i}`, source: "evaluation", attribute: null });
  }
  const finished = attempt.finish({ kind: "evaluation", status: "completed", failure: null });
  await server.next("job_result");
  server.send({ type: "job_result_ack", attempt: ATTEMPT });
  await finished;

  const messages = server.received.filter((message) => message.type === "eval_message");
  expect(messages).toHaveLength(2_001);
  expect(messages.at(-1)).toMatchObject({
    level: "error",
    message:
      "500 further errors and warnings are not shown, there are too many: " +
      "exclude what is not meant to build from the project's attribute patterns",
  });
  expect(server.closed).toBeNull();
});

test("an attribute with a name too long for the protocol keeps its message, with the name's beginning", async () => {
  const server = connect();
  attempt.message({
    level: "error",
    text: "it throws",
    source: "evaluation",
    attribute: ["packages", "x".repeat(9_000)],
  });

  const message = await server.next("eval_message");

  expect(message.attribute).toBeNull();
  expect(message.message).toMatch(/^packages\.x{50,}…: it throws$/);
  expect(server.closed).toBeNull();
});

test("a NAR whose session is lost goes on where it was, on the next one", async () => {
  const bytes = new Uint8Array(200_000).map((_, i) => i % 251);
  const file = "f".repeat(64);
  const first = connect();
  const fetched = attempt.fetchNar(PATH);
  const { request } = await first.next("nar_request");
  const stream = first.connection.openStream();
  const offer = { info: INFO, compression: "none", file_size: bytes.length, file } as const;
  first.send({ type: "nar_offer", request, ...offer, stream: stream.id });
  const read = collect((await fetched).body, 1e6);
  await stream.write(bytes.subarray(0, 120_000));
  await new Promise((resolve) => setTimeout(resolve, 50));
  first.connection.close(1001, "lost");
  await expect.poll(() => current?.lost).toBe(true);

  const second = connect();
  const asked = await second.next("nar_request");
  expect(asked.resume).toEqual({ file, offset: 120_000 });
  const rest = second.connection.openStream();
  second.send({ type: "nar_offer", request: asked.request, ...offer, offset: 120_000, stream: rest.id });
  await rest.pipe(streamOf(bytes.subarray(120_000)));

  expect(Buffer.compare(await read, bytes)).toBe(0);
});

test("a transfer that the server gives up is asked for again, and another file in its place is not taken", async () => {
  const server = connect();
  const fetched = attempt.fetchNar(PATH);
  const { request } = await server.next("nar_request");
  const stream = server.connection.openStream();
  const offer = { info: INFO, compression: "none", file_size: 1e6 } as const;
  server.send({ type: "nar_offer", request, ...offer, file: "a".repeat(64), stream: stream.id });
  const read = collect((await fetched).body, 1e6);
  read.catch(() => {});
  await stream.write(new Uint8Array(1_000));
  server.send({ type: "nar_abort", request, stream: stream.id, reason: "it took too long" });

  const again = await server.next("nar_request");
  expect(again.resume).toEqual({ file: "a".repeat(64), offset: 1_000 });
  const other = server.connection.openStream();
  server.send({
    type: "nar_offer",
    request: again.request,
    ...offer,
    file: "b".repeat(64),
    offset: 0,
    stream: other.id,
  });

  await expect(read).rejects.toThrow("the server has another file of the path now");
  expect(server.closed).toBeNull();
});
