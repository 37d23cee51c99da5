import fc from "fast-check";
import { expect, test } from "vitest";
import { byteStringOf } from "../byte-string.ts";
import { DaemonProtocolError } from "./errors.ts";
import { READ_BYTES_MAX } from "./limits.ts";
import { type ByteSource, DaemonReader, sourceOf } from "./reader.ts";
import { DaemonWriter } from "./writer.ts";

/** Zeros without end, counting what was asked of it. */
function endless(start: Uint8Array): ByteSource & { readonly asked: number[] } {
  const asked: number[] = [];
  let offset = 0;
  return {
    asked,
    async read(length) {
      asked.push(length);
      const part = new Uint8Array(length);
      part.set(start.subarray(offset, offset + length));
      offset += length;
      return part;
    },
  };
}

test("numbers, texts and lists are read as they were written", async () => {
  const numbers = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
  const texts = fc.array(fc.string({ unit: "binary" }), { maxLength: 20 });
  await fc.assert(
    fc.asyncProperty(numbers, texts, fc.boolean(), async (word, items, flag) => {
      const bytes = new DaemonWriter().word(word).texts(items).boolean(flag).finish();
      expect(bytes.length % 8).toBe(0);
      const reader = new DaemonReader(sourceOf(bytes));
      expect(await reader.word()).toBe(word);
      expect(await reader.texts("items")).toEqual(items);
      expect(await reader.boolean("flag")).toBe(flag);
    }),
  );
});

test("a text has its length, its bytes, and zeros up to the next multiple of 8", () => {
  const bytes = new DaemonWriter().text("abc").finish();
  expect([...bytes]).toEqual([3, 0, 0, 0, 0, 0, 0, 0, 97, 98, 99, 0, 0, 0, 0, 0]);
});

test("byte strings keep bytes that are not UTF-8, and text outside of bytes is refused", () => {
  const raw = new Uint8Array([0xff, 0xfe, 0x00, 0xc3]);
  const bytes = new DaemonWriter().byteString(byteStringOf(raw)).finish();
  expect([...bytes.subarray(8, 12)]).toEqual([...raw]);
  expect(() => new DaemonWriter().byteString("€")).toThrow(/above 255/);
});

test("long texts are read in pieces", async () => {
  const text = "x".repeat(3 * READ_BYTES_MAX + 5);
  const reader = new DaemonReader(sourceOf(new DaemonWriter().text(text).finish()));
  expect(await reader.text("long")).toBe(text);
});

test("a claimed length allocates nothing before the bytes arrive", async () => {
  const text = endless(new DaemonWriter().word(900_000).finish());
  await new DaemonReader(text).text("text");
  expect(Math.max(...text.asked)).toBeLessThanOrEqual(READ_BYTES_MAX);

  const tooLong = endless(new DaemonWriter().word(2n ** 60n).finish());
  await expect(new DaemonReader(tooLong).text("text")).rejects.toThrow(DaemonProtocolError);
  expect(tooLong.asked).toEqual([8]);
});

test("a list without end stops at the allowance of its answer", async () => {
  const source = endless(new DaemonWriter().word(1_500_000).finish());
  const reader = new DaemonReader(source);
  reader.allow(10_000);
  await expect(reader.texts("paths")).rejects.toThrow(/larger than is allowed/);
  expect(source.asked.length).toBeLessThan(1_000);
});

test("a display text that is too long is cut, and what follows is still read", async () => {
  const bytes = new DaemonWriter().text("y".repeat(200_003)).word(7).finish();
  const reader = new DaemonReader(sourceOf(bytes));
  expect(await reader.displayText("line", 10)).toBe("yyyyyyyyyy [199993 bytes more]");
  expect(await reader.word()).toBe(7n);
});

test("display texts that are not UTF-8 are shown with replacement characters, exact texts are refused", async () => {
  const bytes = new DaemonWriter().bytes(new Uint8Array([0x61, 0xff])).finish();
  expect(await new DaemonReader(sourceOf(bytes)).displayText("line", 100)).toBe("a�");
  await expect(new DaemonReader(sourceOf(bytes)).text("path")).rejects.toThrow(/not UTF-8/);
});

test.each([
  ["padding that is not zero", [1, 0, 0, 0, 0, 0, 0, 0, 97, 1, 0, 0, 0, 0, 0, 0], /padding/],
  ["a message that ends early", [5, 0, 0, 0, 0, 0, 0, 0, 97], /ends early/],
])("%s is refused", async (_name, bytes, message) => {
  await expect(new DaemonReader(sourceOf(new Uint8Array(bytes))).text("text")).rejects.toThrow(message);
});

test("a boolean is 0 or 1", async () => {
  await expect(new DaemonReader(sourceOf(new DaemonWriter().word(2).finish())).boolean("b")).rejects.toThrow(/neither/);
});
