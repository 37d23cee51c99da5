import { expect, test } from "vitest";
import { collect } from "#core/lib/streams.ts";
import { ResumingBody } from "./resuming-body.ts";

const FILE = new Uint8Array(100).map((_, i) => i);

/** The file from an offset, broken off after some bytes. */
async function* part(offset: number, length: number): AsyncGenerator<Uint8Array> {
  for (let at = offset; at < Math.min(offset + length, FILE.length); at += 10) yield FILE.subarray(at, at + 10);
  if (offset + length < FILE.length) throw new Error("lost");
}

test("a file that breaks off again and again arrives whole, each byte once", async () => {
  const asked: number[] = [];
  const body = new ResumingBody(part(0, 30), async (offset) => {
    asked.push(offset);
    return { body: part(offset, 20), offset };
  });

  expect(await collect(body, 1000)).toEqual(FILE);
  expect(asked).toEqual([30, 50, 70, 90].slice(0, asked.length));
});

test("a file that does not come any further is given up with the last reason", async () => {
  let tries = 0;
  const body = new ResumingBody(part(0, 0), async (offset) => {
    tries++;
    return { body: part(offset, 0), offset };
  });

  await expect(collect(body, 1000)).rejects.toThrow("lost");
  expect(tries).toBe(2);
});

test("a body that nobody reads lets go of its first part", async () => {
  let stopped = false;
  const first = {
    [Symbol.asyncIterator]: () => ({
      next: () => Promise.resolve({ done: true as const, value: undefined }),
      return: () => {
        stopped = true;
        return Promise.resolve({ done: true as const, value: undefined });
      },
    }),
  };
  const body = new ResumingBody(first, () => Promise.reject(new Error("not asked")));
  await body[Symbol.asyncIterator]().return?.();

  expect(stopped).toBe(true);
});
