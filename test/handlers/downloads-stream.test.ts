import { expect, test } from "vitest";
import { utf8 } from "#core/lib/bytes.ts";
import { pacedStream } from "#handlers/downloads-stream.ts";
import { ManualClock } from "../support/manual-clock.ts";

interface Source {
  readonly stream: ReadableStream<Uint8Array>;
  readonly clock: ManualClock;
  /** What happened to the source, in order. */
  readonly events: string[];
}

function paced(count: number): Source {
  const clock = new ManualClock();
  const events: string[] = [];
  async function* body(): AsyncGenerator<Uint8Array> {
    try {
      for (let index = 0; index < count; index++) yield utf8(`${index}`);
    } finally {
      events.push("closed");
    }
  }
  const discard = async () => void events.push("discarded");
  const onEnd = () => events.push("ended");
  const stream = pacedStream(clock, { body: body(), discard }, { idleMsMax: 60_000, onEnd });
  return { stream, clock, events };
}

test("a client that takes nothing for a minute is given up, and everything is closed", async () => {
  const { stream, clock, events } = paced(3);
  const reader = stream.getReader();
  await reader.read();
  await clock.advance(59_999);
  expect((await reader.read()).done).toBe(false);
  await clock.advance(59_999);
  expect(events).toEqual([]);
  await clock.advance(1);
  await expect(reader.read()).rejects.toThrow("takes nothing");
  expect(events).toEqual(["closed", "discarded", "ended"]);
});

test("a client that never reads at all is given up too", async () => {
  const { stream, clock, events } = paced(3);
  await clock.advance(60_000);
  await expect(stream.getReader().read()).rejects.toThrow("takes nothing");
  expect(events).toEqual(["discarded", "ended"]);
});

test("an answer that was read to its end is closed once, and no timer is left", async () => {
  const { stream, clock, events } = paced(3);
  expect(await new Response(stream).text()).toBe("012");
  await clock.advance(120_000);
  expect(events).toEqual(["closed", "discarded", "ended"]);
});
