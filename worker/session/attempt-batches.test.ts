import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import { socketPair } from "#core/protocol/memory-socket.ts";
import { FakeServer } from "#test/support/fake-server.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { BatchRefusedError } from "../link.ts";
import { Attempt } from "./attempt.ts";
import { LiveSession } from "./live-session.ts";

const ATTEMPT = "01890000-0000-7000-8000-000000000009";
let folder: TemporaryFolder;
let server: FakeServer;
let attempt: Attempt;
let pauses: number[];
/** Shorter ones are those in which a log gathers. */
const RETRY_MS_MIN = 1_000;

beforeEach(async () => {
  folder = await withTemporaryFolder();
  pauses = [];
  const [mine, theirs] = socketPair(systemClock);
  server = new FakeServer(theirs);
  const session = new LiveSession({
    socket: mine,
    clock: systemClock,
    silenceTimeoutMs: 60_000,
    onMessage: () => {},
    onClose: () => {},
  });
  attempt = new Attempt({
    attemptId: ATTEMPT,
    onBuilderEnded: () => {},
    spoolPath: join(folder.path, "spool"),
    session: async () => session,
    pause: async (ms) => void (ms >= RETRY_MS_MIN && pauses.push(ms)),
  });
  attempt.attach(session, 0);
});
afterEach(async () => {
  await attempt.close();
  await folder[Symbol.asyncDispose]();
});

/** Takes the next batch and answers it. */
async function answerBatch(error: string | null, retry?: boolean): Promise<number> {
  const { sequence, content } = await server.next("eval_batch");
  server.connection.refuseStream(content.stream);
  server.send({ type: "eval_batch_ack", attempt: ATTEMPT, sequence, error, ...(retry === undefined ? {} : { retry }) });
  return sequence;
}

test("a batch that met something of the moment is sent again as the same batch", async () => {
  const sent = attempt.sendBatch({ nodes: [], entryPoints: [] });
  const first = await answerBatch("a dependency was being removed", true);
  const second = await answerBatch(null, false);

  await sent;
  expect(second).toBe(first);
  expect(pauses).toEqual([2_000]);
});

test("a batch that is refused for good, or again and again, ends the evaluation with the server's words", async () => {
  const refused = attempt.sendBatch({ nodes: [], entryPoints: [] });
  const early = expect(refused).rejects.toThrow(new BatchRefusedError("it is no derivation"));
  await answerBatch("it is no derivation");
  await early;
  expect(pauses).toEqual([]);

  const sent = attempt.sendBatch({ nodes: [], entryPoints: [] });
  const late = expect(sent).rejects.toMatchObject({ message: "still in the way", isOutdated: true });
  for (let tries = 0; tries < 3; tries++) await answerBatch("still in the way", true);
  await late;
  expect(pauses).toHaveLength(2);
});
