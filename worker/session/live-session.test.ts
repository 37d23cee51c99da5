import { expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import { STREAMS_OPEN_MAX } from "#core/protocol/limits.ts";
import { socketPair } from "#core/protocol/memory-socket.ts";
import { storePath } from "#test/support/derivations.ts";
import { FakeServer } from "#test/support/fake-server.ts";
import { LiveSession, type OutgoingMessage, SessionLostError } from "./live-session.ts";

const ATTEMPT = "01890000-0000-7000-8000-00000000000a";
const PATH = storePath("/nix/store/00000000000000000000000000000000-thing");
const QUERY: OutgoingMessage = { type: "cache_query", query: 1, attempt: ATTEMPT, paths: [PATH] };

function connect() {
  const [mine, theirs] = socketPair(systemClock);
  const server = new FakeServer(theirs);
  const ended: string[] = [];
  const session = new LiveSession({
    socket: mine,
    clock: systemClock,
    silenceTimeoutMs: 60_000,
    onMessage: () => {},
    onClose: (reason) => ended.push(reason),
  });
  return { server, session, ended };
}

test("a lost session fails what was asked on it, and what is asked of it later", async () => {
  const { server, session, ended } = connect();
  const asked = session.ask(QUERY, "query 1");
  await server.next("cache_query");
  server.connection.close(1001, "the server is stopping");

  await expect(asked).rejects.toThrow(new SessionLostError("the session ended: the server is stopping"));
  await expect(session.ask(QUERY, "query 1")).rejects.toThrow(SessionLostError);
  expect(ended).toEqual(["the server is stopping"]);
});

test("an answer nobody waits for does no harm, and a body that comes with it is sent back", async () => {
  const { server, session, ended } = connect();
  const stream = server.connection.openStream();
  const info = { path: PATH, nar_hash: "0".repeat(64), nar_size: 1, references: [], deriver: null, ca: null };
  server.send({ type: "nar_offer", request: 9, info, compression: "none", file_size: 1, stream: stream.id });
  server.send({ type: "cache_status", query: 9, present: [] });

  const body = (async function* () {
    for (;;) yield new Uint8Array(1024 * 1024);
  })();
  await expect(stream.pipe(body)).rejects.toThrow("stopped");
  expect(ended).toEqual([]);
  expect(session.lost).toBe(false);
});

test("an answer that cannot be taken ends the session, and its question fails with it", async () => {
  const { server, session } = connect();
  for (let id = 1; id <= STREAMS_OPEN_MAX; id++) session.connection.acceptStream(id);
  const question = { type: "nar_request", request: 1, attempt: ATTEMPT, path: PATH } as const;
  const asked = session.askReading(question, "request 1", () => session.connection.acceptStream(STREAMS_OPEN_MAX + 1));
  await server.next("nar_request");
  server.send({ type: "nar_unavailable", request: 1, reason: "stands for an offer", retry: false });

  await expect(asked).rejects.toThrow(SessionLostError);
  await expect.poll(() => server.closed).toBe("too many open streams");
  expect(server.received.at(-1)).toEqual({ type: "error", code: 400, message: "too many open streams" });
});

test("what the server would end the session for is not sent", async () => {
  const { server, session } = connect();
  const paths = Array.from({ length: 1_001 }, () => PATH);

  await expect(session.ask({ ...QUERY, paths } as OutgoingMessage, "query 1")).rejects.toThrow(
    "cache_query: more than 1000 items",
  );
  const message = "\u{1f600}".repeat(300_000);
  const long = { type: "job_result", attempt: ATTEMPT, result: failed(message) } as const;
  await expect(session.ask(long, "result")).rejects.toThrow(
    /^job_result: it is 12\d{5} bytes long, more than 1048576$/,
  );
  expect(server.received).toEqual([]);
});

function failed(message: string) {
  return { kind: "evaluation", status: "failed", failure: { class: "transient", message } } as const;
}
