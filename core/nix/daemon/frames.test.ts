import fc from "fast-check";
import { expect, test } from "vitest";
import { DaemonError, DaemonProtocolError } from "./errors.ts";
import { buildLogLine, type DaemonEvent } from "./events.ts";
import { readFrame, readUntilAnswer } from "./frames.ts";
import { LOG_TEXT_BYTES_MAX, READ_BYTES_MAX } from "./limits.ts";
import { FrameCode, ResultType } from "./numbers.ts";
import { type ByteSource, DaemonReader, sourceOf } from "./reader.ts";
import { DaemonWriter } from "./writer.ts";

const readerOf = (writer: DaemonWriter) => new DaemonReader(sourceOf(writer.finish()));

function errorFrame(message: string): DaemonWriter {
  return new DaemonWriter()
    .word(FrameCode.error)
    .text("Error")
    .word(0)
    .text("Error")
    .text(message)
    .word(0)
    .list(["while building"], () => {});
}

test("events arrive in order, up to the answer", async () => {
  const id = 2n ** 54n + 1n;
  const writer = new DaemonWriter().word(FrameCode.message).text("warning: x\n");
  writer.word(FrameCode.startActivity).word(id).word(3).word(105).text("building");
  writer.word(2).word(1).text("/nix/store/x.drv").word(0).word(1).word(0);
  writer.word(FrameCode.result).word(id).word(ResultType.buildLogLine).word(1).word(1).text("hello");
  writer.word(FrameCode.stopActivity).word(id).word(FrameCode.last).word(42);
  const reader = readerOf(writer);

  const events: DaemonEvent[] = [];
  await readUntilAnswer(reader, (event) => void events.push(event));

  expect(events.map(({ kind }) => kind)).toEqual(["message", "start", "result", "stop"]);
  expect(events[1]).toMatchObject({ id, type: 105, text: "building", fields: ["/nix/store/x.drv", 1] });
  expect(events.map(buildLogLine)).toEqual([null, null, "hello", null]);
  expect(await reader.word()).toBe(42n);
});

test("lines of a log are the same from one piece, cut anywhere, and read slowly", async () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.constant("x".repeat(LOG_TEXT_BYTES_MAX + 9)));
  const word = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.constantFrom(0n, 1n, 101n, 2n ** 32n + 101n));
  const line = fc.record({ id: word, type: fc.oneof({ weight: 4, arbitrary: fc.constant(101n) }, word), text });
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 6 }), fc.array(fc.nat(200_000)), async (lines, cuts) => {
      const writer = new DaemonWriter();
      for (const { id, type, text } of lines) {
        writer.word(FrameCode.result).word(id).word(type).word(1).word(1).text(text);
      }
      const bytes = writer.word(FrameCode.last).finish();
      const eventsOf = async (source: ByteSource): Promise<unknown> => {
        const events: DaemonEvent[] = [];
        const failure = await readUntilAnswer(new DaemonReader(source), (event) => void events.push(event)).then(
          () => null,
          (error: Error) => error.message,
        );
        return { events, failure };
      };

      const { read } = sourceOf(bytes);
      const slowly = await eventsOf({ read });
      expect(await eventsOf(sourceOf(bytes))).toEqual(slowly);
      expect(await eventsOf(cutSource(bytes, cuts))).toEqual(slowly);
    }),
    { numRuns: 60 },
  );
});

/** Shows what lies before the next cut. */
function cutSource(bytes: Uint8Array, cuts: readonly number[]): ByteSource {
  const { read } = sourceOf(bytes);
  let offset = 0;
  return {
    get arrived() {
      const end = Math.min(bytes.length, ...cuts.filter((cut) => cut > offset));
      return bytes.subarray(offset, end);
    },
    skipArrived(length) {
      offset += length;
      for (let left = length; left > 0; left -= READ_BYTES_MAX) void read(Math.min(left, READ_BYTES_MAX));
    },
    read(length) {
      offset += length;
      return read(length);
    },
  };
}

test("padding that is not zero is refused on the short way too", async () => {
  const writer = new DaemonWriter().word(FrameCode.result).word(1).word(ResultType.buildLogLine).word(1).word(1);
  const bytes = writer.text("abc").word(FrameCode.last).finish();
  bytes[55] = 1;
  const events: DaemonEvent[] = [];
  const reading = readUntilAnswer(new DaemonReader(sourceOf(bytes)), (event) => void events.push(event));
  await expect(reading).rejects.toThrow(/padding is not zero/);
  expect(events).toEqual([]);
});

test("the daemon is not read on while a handler is busy", async () => {
  const reader = readerOf(new DaemonWriter().word(FrameCode.message).text("a").word(FrameCode.message).text("b"));
  const seen: string[] = [];
  let goOn = () => {};
  const busy = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const reading = readUntilAnswer(reader, (event) => {
    seen.push(event.kind === "message" ? event.text : "");
    return busy;
  });
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(seen).toEqual(["a"]);

  goOn();
  await expect(reading).rejects.toThrow(/ends early/);
  expect(seen).toEqual(["a", "b"]);
});

test("an error frame becomes a DaemonError: readable message, raw text and traces kept", async () => {
  const writer = errorFrame("\x1b[31;1merror:\x1b[0m builder for '\x1b[35;1m/x.drv\x1b[0m' failed\n");
  writer.word(0).text("\x1b[1mtrace\x1b[0m");
  const error = await readUntilAnswer(readerOf(writer)).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(DaemonError);
  expect(error).toMatchObject({ message: "error: builder for '/x.drv' failed", level: 0, traces: ["trace"] });
  expect((error as DaemonError).raw).toContain("\x1b[31;1m");
});

test("a log line of any length is cut and does not end the build", async () => {
  const writer = new DaemonWriter().word(FrameCode.result).word(1).word(ResultType.buildLogLine).word(1).word(1);
  const reader = readerOf(writer.text("z".repeat(LOG_TEXT_BYTES_MAX * 40)).word(FrameCode.last));
  const lines: (string | null)[] = [];
  await readUntilAnswer(reader, (event) => void lines.push(buildLogLine(event)));
  expect(lines[0]?.length).toBeLessThan(LOG_TEXT_BYTES_MAX + 100);
});

test("whatever bytes arrive, reading frames ends with an event or a stated reason", async () => {
  const codes = fc.constantFrom(...Object.values(FrameCode), 0n, 1n);
  const words = fc.array(
    fc.oneof(codes, fc.bigInt({ min: 0n, max: 20n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  );
  await fc.assert(
    fc.asyncProperty(words, fc.uint8Array({ maxLength: 64 }), async (start, rest) => {
      const writer = new DaemonWriter();
      for (const word of start) writer.word(word);
      const reader = new DaemonReader(sourceOf(new Uint8Array([...writer.finish(), ...rest])));
      const ended = await readAll(reader);
      expect(ended).toBeInstanceOf(DaemonProtocolError);
    }),
    { numRuns: 500 },
  );
});

async function readAll(reader: DaemonReader): Promise<unknown> {
  for (;;) {
    try {
      await readFrame(reader);
    } catch (error) {
      return error;
    }
  }
}
