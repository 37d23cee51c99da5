import { xz } from "@napi-rs/lzma";
import { expect, test } from "vitest";
import { nodeCodec } from "./codec.ts";

/** The native stream stood still in one of twenty such rounds while it was told of the failure. */
test("a damaged xz file whose source breaks ends at once, round after round", async () => {
  const lines = Array.from({ length: 60_000 }, (_, line) => `line ${line}\n`).join("");
  const file = new Uint8Array(await xz.compress(Buffer.from(lines)));
  const middle = file.length >> 1;
  file[middle] = (file[middle] as number) ^ 0xff;
  async function* breaking(): AsyncGenerator<Uint8Array> {
    for (let start = 0; start < file.length; start += 5_000) {
      yield file.subarray(start, start + 5_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw new Error("the connection broke");
  }
  const drain = async () => {
    for await (const _ of nodeCodec.decompress("xz", breaking()) ?? []);
  };
  for (let round = 0; round < 100; round++) await expect(drain()).rejects.toThrow();
}, 15_000);
