import { expect, test } from "vitest";
import type { LogPart } from "../db/logs.ts";
import { utf8 } from "../lib/bytes.ts";
import { labelLines } from "./log-lines.ts";

async function* cut(bytes: Uint8Array, size: number, from = 0): AsyncGenerator<LogPart> {
  for (let start = from; start < bytes.length; start += size) {
    yield { byteStart: start, bytes: bytes.subarray(start, start + size) };
  }
}

async function labelled(
  bytes: Uint8Array,
  { size = 7, from = 0, final = false }: { size?: number; from?: number; final?: boolean } = {},
): Promise<{ readonly text: string; readonly position: number }> {
  let all = "";
  let last = from;
  for await (const { text, position } of labelLines(cut(bytes, size, from), "a> ", { final })) {
    all += text;
    last = position;
  }
  return { text: all, position: last };
}

test.each([1, 2, 3, 5, 64])("each line gets its label, wherever parts of %i bytes end", async (size) => {
  const bytes = utf8("one\n\nthree ü€🦀\nrest");
  expect(await labelled(bytes, { size })).toEqual({
    text: "a> one\na> \na> three ü€🦀\n",
    position: bytes.length - 4,
  });
  expect((await labelled(bytes, { size, final: true })).text).toBe("a> one\na> \na> three ü€🦀\na> rest\n");
});

test("a log that is read on from where it was left gives each line once", async () => {
  const bytes = utf8("one\ntwo and\nthree\n");
  const first = await labelled(bytes.subarray(0, 7));
  const rest = await labelled(bytes, { from: first.position });
  expect(first.text + rest.text).toBe("a> one\na> two and\na> three\n");
});

test("a line without an end is cut, between characters", async () => {
  const bytes = utf8(`x${"€".repeat(50_000)}`);
  const { text, position } = await labelled(bytes, { size: 10_000 });
  expect(text).toMatch(/^a> x€+\na> €+\n$/);
  const { text: all } = await labelled(bytes, { size: 10_000, final: true });
  expect(all.replaceAll("\na> ", "")).toBe(`a> x${"€".repeat(50_000)}\n`);
  expect(position).toBeGreaterThan(64 * 1024);
});
