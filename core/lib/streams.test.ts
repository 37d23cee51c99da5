import { expect, test } from "vitest";
import { type ByteStream, collect, shownAnEnd, streamOf } from "./streams.ts";

const BROKEN = new Error("the connection broke");

async function* breaking(): AsyncGenerator<Uint8Array> {
  yield Uint8Array.of(1);
  throw BROKEN;
}

/** As some native streams: what their source throws, nobody ever hears of. */
async function* deaf(body: ByteStream): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch {
    await new Promise(() => {});
  }
}

async function* demanding(body: ByteStream): AsyncGenerator<Uint8Array> {
  const bytes = await collect(body, 10);
  if (bytes.length < 2) throw new Error("the file is cut off");
  yield bytes;
}

test("what a body throws comes out of every transform, and not what that makes of it", async () => {
  await expect(collect(shownAnEnd(breaking(), deaf), 10)).rejects.toBe(BROKEN);
  await expect(collect(shownAnEnd(breaking(), demanding), 10)).rejects.toBe(BROKEN);
  await expect(collect(shownAnEnd(streamOf(Uint8Array.of(1)), demanding), 10)).rejects.toThrow("cut off");
  expect(await collect(shownAnEnd(streamOf(Uint8Array.of(1, 2)), demanding), 10)).toEqual(Uint8Array.of(1, 2));
});
