import { createHash } from "node:crypto";
import { once } from "node:events";
import { get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type BlockStream, offerBody } from "#core/lib/block-stream.ts";
import { recordingLogger } from "#test/cache/support.ts";
import { createHttpServer } from "./http-server.ts";

const BLOCK = 256 * 1024;
const logged: string[] = [];
let body: Source;
let server: ReturnType<typeof createHttpServer>;
let port = 0;

/** `length` bytes of which each block differs; fails where it is told to. */
class Source implements BlockStream {
  readonly #length: number;
  readonly #failAt: number;
  #position: number;
  closed = 0;
  reads = 0;

  constructor(length: number, { start = 0, failAt = Number.POSITIVE_INFINITY } = {}) {
    this.#length = length;
    this.#position = start;
    this.#failAt = failAt;
  }

  async readInto(block: Uint8Array): Promise<number> {
    this.reads++;
    if (this.#position >= this.#failAt) throw new Error("the disk failed");
    const length = Math.min(block.length, this.#length - this.#position);
    for (let i = 0; i < length; i++) block[i] = byteAt(this.#position + i);
    this.#position += length;
    return length;
  }

  async close(): Promise<void> {
    this.closed++;
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    throw new Error("the response's stream is not to be read");
  }
}

function byteAt(position: number): number {
  return (position ^ (position >> 8) ^ (position >> 16)) & 255;
}

function expected(length: number): string {
  const hash = createHash("sha256");
  const bytes = new Uint8Array(length);
  for (let position = 0; position < length; position++) bytes[position] = byteAt(position);
  hash.update(bytes);
  return hash.digest("hex");
}

function answer(length: number, options?: { failAt: number }): Response {
  const first = Uint8Array.from({ length: Math.min(length, BLOCK) }, (_, position) => byteAt(position));
  body = new Source(length, { start: first.length, ...options });
  const headers = { "content-length": String(length), etag: "e" };
  return offerBody(new Response(new ReadableStream()), { status: 200, headers, first, rest: body });
}

let respond: () => Response = () => answer(0);

beforeEach(async () => {
  logged.length = 0;
  const fetch = async () => respond();
  server = createHttpServer({ fetch, fromMemory: () => null }, recordingLogger(logged));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  port = (server.address() as AddressInfo).port;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

async function ask(): Promise<IncomingMessage> {
  const [response] = await once(get({ host: "127.0.0.1", port, agent: false }), "response");
  return response as IncomingMessage;
}

test.each([1, BLOCK, BLOCK + 1, 20 * BLOCK + 7])(
  "a body of %i bytes arrives whole, with its headers",
  async (length) => {
    respond = () => answer(length);
    const response = await ask();
    const hash = createHash("sha256");
    for await (const chunk of response) hash.update(chunk as Buffer);

    expect(response.headers).toMatchObject({ etag: "e", "content-length": String(length) });
    expect(hash.digest("hex")).toBe(expected(length));
    await expect.poll(() => body.closed).toBeGreaterThan(0);
  },
);

test("a body that is in memory arrives whole, however slow its client is", async () => {
  const first = Uint8Array.from({ length: 20 * BLOCK }, (_, position) => byteAt(position));
  const headers = { "content-length": String(first.length) };
  respond = () => offerBody(new Response(new ReadableStream()), { status: 200, headers, first, rest: null });
  const response = await ask();
  await sleep(50);
  const hash = createHash("sha256");
  for await (const chunk of response) hash.update(chunk as Buffer);

  expect(response.headers["content-length"]).toBe(String(first.length));
  expect(hash.digest("hex")).toBe(expected(first.length));
});

test("memory that is used again never shows in another body: many clients of different paces", async () => {
  const lengths = Array.from({ length: 16 }, (_, index) => (index + 1) * 200_000);
  let next = 0;
  respond = () => answer(lengths[next++ % lengths.length] as number);
  const bodies = lengths.map(async (_, index) => {
    const response = await ask();
    const hash = createHash("sha256");
    for await (const chunk of response) {
      hash.update(chunk as Buffer);
      if (index % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(hash.digest("hex")).toBe(expected(Number(response.headers["content-length"])));
  });
  await Promise.all(bodies);
});

test("a body that fails is cut, told and closed", async () => {
  respond = () => answer(10 * BLOCK, { failAt: 4 * BLOCK });
  const response = await ask();
  const reading = async () => {
    for await (const _ of response);
  };

  await expect(reading()).rejects.toThrow("aborted");
  expect(logged).toEqual(["a body could not be sent to its end"]);
  expect(body.closed).toBeGreaterThan(0);
});

test("a client that waits is not read ahead for, and one that goes lets go of the source", async () => {
  respond = () => answer(400 * BLOCK);
  const response = await ask();
  response.pause();
  const reads = async (): Promise<number> => {
    const before = body.reads;
    await sleep(100);
    return body.reads - before;
  };
  await expect.poll(reads).toBe(0);
  expect(body.reads).toBeLessThan(100);

  response.destroy();
  await expect.poll(() => body.closed).toBeGreaterThan(0);
  expect(logged).toEqual([]);
});
