import { once } from "node:events";
import { createServer, type IncomingMessage, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";
import { findClient } from "#core/http/client-address.ts";
import { RATE_TIERS, RateLimits } from "#core/http/rate-limits.ts";
import { ManualClock, settle } from "#test/support/manual-clock.ts";
import { RequestGate } from "./request-gate.ts";

const NARINFO = "/cache/main/0c5b8vw40dy178xlpddw65q9gf1h2186.narinfo";
const CLIENT = findClient("203.0.113.9", null, []);
const { burst, refillMs } = RATE_TIERS.cacheHot;

let clock: ManualClock;
let rates: RateLimits;
let server: Server;
let answered: string[];
beforeEach(async () => {
  clock = new ManualClock();
  rates = new RateLimits(clock);
  answered = [];
  const gate = new RequestGate({ clock, rates, clientOf: () => CLIENT });
  server = createServer((asked, response) => {
    const answer = () => {
      answered.push(asked.url as string);
      response.end("answer");
    };
    if (gate.mayPass(asked, response, answer)) answer();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

function send(path: string, method = "GET") {
  const { port } = server.address() as AddressInfo;
  const sent = request({ host: "127.0.0.1", port, path, method, agent: false });
  sent.on("error", () => {});
  sent.end();
  return sent;
}

async function answerTo(path: string, method?: string): Promise<IncomingMessage> {
  const [response] = await once(send(path, method), "response");
  return response as IncomingMessage;
}

function spend(count: number): void {
  for (let i = 0; i < count; i++) rates.take("cacheHot", CLIENT, Number.POSITIVE_INFINITY);
}

test("a client that asks a cache faster than its pace waits for its turn, and others do not", async () => {
  spend(burst);
  const early = answerTo(NARINFO);
  await expect.poll(() => clock.pending).toBe(1);
  expect(answered).toEqual([]);

  expect((await answerTo("/api/v1/health")).statusCode).toBe(200);
  await clock.advance(refillMs);
  expect(await text(await early)).toBe("answer");
  expect(answered).toEqual(["/api/v1/health", NARINFO]);
});

test("one whose turn is far away is refused in the envelope, with when to come again", async () => {
  spend(burst + 10_000 / refillMs);

  const refused = await answerTo(NARINFO);

  expect(refused.statusCode).toBe(429);
  expect(refused.headers).toMatchObject({ "retry-after": "11", "x-content-type-options": "nosniff" });
  expect(JSON.parse(await text(refused))).toMatchObject({ error: true, code: "too_many_requests" });
  expect(answered).toEqual([]);
});

test("a refused upload is told so at once, and what it goes on to send is not read", async () => {
  spend(burst + 10_000 / refillMs);

  const refused = await answerTo("/cache/main/nar/x.nar", "PUT");

  expect([refused.statusCode, refused.headers.connection]).toEqual([429, "close"]);
});

test("a client that goes while it waits is not answered, and leaves its place", async () => {
  spend(burst);
  const gone = send(NARINFO);
  await expect.poll(() => clock.pending).toBe(1);
  gone.destroy();

  await expect.poll(() => clock.pending).toBe(0);
  await clock.advance(refillMs);
  await settle();
  expect(answered).toEqual([]);
});
