import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { socketPair } from "#core/protocol/memory-socket.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { storePath } from "#test/support/derivations.ts";
import { FakeServer } from "#test/support/fake-server.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { AttemptEndedError, type Upload, UploadRefusedError } from "../link.ts";
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

beforeEach(async () => {
  folder = await withTemporaryFolder();
  current = null;
  waiting = [];
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
    pause: async () => {},
  });
});

afterEach(async () => {
  await attempt.close();
  await folder[Symbol.asyncDispose]();
});

function connect(): FakeServer {
  const [mine, theirs] = socketPair(systemClock);
  const server = new FakeServer(theirs);
  current = new LiveSession({
    socket: mine,
    clock: systemClock,
    silenceTimeoutMs: 60_000,
    onMessage: () => {},
    onClose: () => {},
  });
  attempt.attach(current, 0);
  for (const resolve of waiting.splice(0)) resolve();
  return server;
}

function upload(text: string): Upload {
  return { target: "output", info: INFO, compression: "none", open: () => streamOf(utf8(text)) };
}

/** Accepts bodies as they are announced. */
function accepting(server: FakeServer): Promise<string>[] {
  const bodies: Promise<string>[] = [];
  server.onMessage = (message) => {
    if (!("stream" in message)) return;
    const body = collect(server.connection.acceptStream(message.stream), 1e6).then(fromUtf8);
    body.catch(() => {});
    bodies.push(body);
  };
  return bodies;
}

test("a result leaves with the uploads it rests on, before any answer, and one answer speaks for all", async () => {
  const server = connect();
  const bodies = accepting(server);
  attempt.log(utf8("built\n"));
  const delivered = attempt.deliver([upload("abc"), upload("def")], BUILT);
  const { uploads } = await server.next("job_result");
  const pushes = server.received.filter(({ type }) => type === "nar_push");
  expect(pushes).toMatchObject([{ with_result: true }, { with_result: true }]);
  expect(pushes.map((push) => "upload" in push && push.upload)).toEqual(uploads);
  expect(await Promise.all(bodies)).toEqual(expect.arrayContaining(["abc", "def", "built\n"]));
  server.send({ type: "job_result_ack", attempt: ATTEMPT });
  await delivered;

  // What the caller reports of it besides is said already.
  await attempt.finish(BUILT);
  expect(server.count("job_result")).toBe(1);
});

test("after a refusal only what the server does not have is sent again, and then the result", async () => {
  const server = connect();
  const bodies = accepting(server);
  const delivered = attempt.deliver([upload("abc"), upload("def")], BUILT);
  const [first, second] = [await server.next("nar_push"), await server.next("nar_push")];
  await server.next("job_result");
  server.send({ type: "nar_refused", upload: first.upload, message: "the disk is full", retry: true });
  server.send({ type: "nar_committed", upload: second.upload });

  const { upload: again } = await server.next("nar_push");
  expect((await server.next("job_result")).uploads).toEqual([again]);
  server.send({ type: "job_result_ack", attempt: ATTEMPT });
  await delivered;
  expect(await Promise.all(bodies)).toEqual(["abc", "def", expect.stringContaining("the disk is full"), "abc"]);
});

test("an upload refused for good ends the delivery; another result and the rest of the log follow", async () => {
  const server = connect();
  const bodies = accepting(server);
  attempt.log(utf8("built\n"));
  const delivered = attempt.deliver([upload("abc")], BUILT);
  const { upload: id } = await server.next("nar_push");
  await server.next("job_result");
  server.send({ type: "nar_refused", upload: id, message: "the NAR has another hash", retry: false });
  await expect(delivered).rejects.toThrow(new UploadRefusedError("the NAR has another hash"));

  attempt.log(utf8("=== build failed\n"));
  const failed: BuildResult = {
    ...{ ...BUILT, status: "failed" },
    failure: { class: "transient", message: "no", missing: [] },
  };
  const finished = attempt.finish(failed);
  expect(await server.next("job_result")).toMatchObject({ result: { status: "failed" } });
  server.send({ type: "job_result_ack", attempt: ATTEMPT });
  await finished;
  const logs = server.received.flatMap((message) => (message.type === "log_open" ? message.offset : []));
  expect(logs).toEqual([0, "built\n".length]);
  expect(await bodies.at(-1)).toBe("=== build failed\n");
});

test("a body that fails ends the delivery with its own words", async () => {
  const server = connect();
  await Promise.all(accepting(server));
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield utf8("ab");
    throw new Error("the store is damaged");
  }
  await expect(attempt.deliver([{ ...upload(""), open: broken }], BUILT)).rejects.toThrow("the store is damaged");
});

test("a delivery whose session is lost is sent again as a whole", async () => {
  const delivered = attempt.deliver([upload("abc")], BUILT);
  const first = connect();
  await first.next("job_result");
  first.connection.close(1001, "lost");
  await expect.poll(() => current?.lost).toBe(true);

  const second = connect();
  const bodies = accepting(second);
  await second.next("nar_push");
  await second.next("job_result");
  expect(await bodies[0]).toBe("abc");
  second.send({ type: "job_result_ack", attempt: ATTEMPT });
  await delivered;
});

test("a delivery that nobody waits for any more reads its bodies no further", async () => {
  const server = connect();
  const released = Promise.withResolvers<void>();
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) yield new Uint8Array(65_536);
    } finally {
      released.resolve();
    }
  }
  const delivered = attempt.deliver([{ ...upload(""), open: endless }], BUILT);
  await server.next("nar_push");
  attempt.end("aborted on the server");
  await expect(delivered).rejects.toThrow(AttemptEndedError);
  await released.promise;
});
