import { readFileSync } from "node:fs";
import * as v from "valibot";
import { describe, expect, test } from "vitest";
import { fromHex, fromUtf8, utf8 } from "#core/lib/bytes.ts";
import { decodeFrame, encodeFrame } from "#core/protocol/frame.ts";
import { BUILD_MS_MAX, PROTOCOL_VERSION } from "#core/protocol/limits.ts";
import { ServerMessage } from "#core/protocol/server-messages.ts";
import { WorkerMessage } from "#core/protocol/worker-messages.ts";

const examples = JSON.parse(readFileSync(new URL("../docs/protocol-examples.json", import.meta.url), "utf8"));
const documentation = readFileSync(new URL("../docs/protocol.md", import.meta.url), "utf8");

test("the documents describe the version that is spoken", () => {
  expect(examples.version).toBe(PROTOCOL_VERSION);
  expect(documentation).toContain(`version ${PROTOCOL_VERSION}`);
});

describe.each([
  ["worker", WorkerMessage],
  ["server", ServerMessage],
] as const)("messages of a %s", (side, schema) => {
  const sent: { type: string }[] = examples[side];

  test.each(sent.map((message) => [message.type, message]))("%s is understood as it is documented", (_, message) => {
    expect(v.parse(schema, message)).toEqual(message);
  });

  test("each has an example", () => {
    const types = schema.options.map((option) => option.entries.type.literal);
    expect([...new Set(sent.map(({ type }) => type))].sort()).toEqual([...types].sort());
  });
});

test("a builder that says it ran longer than a year is refused", () => {
  const results = examples.worker.filter(({ result }: { result?: { kind: string } }) => result?.kind === "build");
  const [message] = results;
  const ran = (build_ms: number) => ({ ...message, result: { ...message.result, build_ms } });
  expect(v.is(WorkerMessage, ran(BUILD_MS_MAX))).toBe(true);
  expect(v.is(WorkerMessage, ran(BUILD_MS_MAX + 1))).toBe(false);
});

test("a binary frame is laid out as it is documented", () => {
  for (const { hex, body, ...header } of examples.frames) {
    const bytes = fromHex(hex);
    if (!bytes) throw new Error("the example is not hexadecimal");
    const frame = decodeFrame(bytes, 1024);
    expect({ ...frame, body: fromUtf8(frame.body) }).toEqual({ ...header, body });
    expect(encodeFrame({ ...header, body: utf8(body) })).toEqual(bytes);
  }
});
