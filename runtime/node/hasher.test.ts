import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { nodeHasher } from "./hasher.ts";

const MIB = 1024 * 1024;

/** As frames of a socket: each a buffer of its own, dropped once it is hashed. */
async function* chunks(count: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i++) {
    await nextTurn();
    yield new Uint8Array(65_536);
  }
}

test("what has passed through a hash is let go of soon, however much it is", async () => {
  const hash = nodeHasher.sha256();
  const before = process.memoryUsage().arrayBuffers;
  let peak = 0;
  for await (const chunk of chunks(6_000)) {
    hash.update(chunk);
    peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
  }
  // Left to itself V8 keeps 64 MiB and more.
  expect(peak).toBeLessThan(40 * MIB);
});
