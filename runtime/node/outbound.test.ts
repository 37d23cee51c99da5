import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test } from "vitest";
import { type IpNetwork, parseIpNetwork } from "#core/domain/ip-address.ts";
import { collect } from "#core/lib/streams.ts";
import type { OutboundError } from "#core/ports/outbound.ts";
import { createOutbound } from "./outbound.ts";

const OPTIONS = { timeoutMs: 2_000, idleTimeoutMs: 300, bytesMax: 1_000_000 };
const open = createOutbound({ allowed: [parseIpNetwork("127.0.0.1/32") as IpNetwork], privateAllowed: true });
const closed = createOutbound({ allowed: [], privateAllowed: true });
const servers: { close(): void }[] = [];
afterAll(() => {
  open.close();
  closed.close();
  for (const server of servers) server.close();
});

async function serve(listener: RequestListener): Promise<{ url: string; port: number }> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  servers.push({
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, port };
}

function failureOf(promise: Promise<unknown>): Promise<Pick<OutboundError, "failure" | "message">> {
  return promise.then(
    () => Promise.reject(new Error("it did not fail")),
    (error: OutboundError) => ({ failure: error.failure, message: error.message }),
  );
}

test("an answer comes with its status, its length and its body, asked for as it is kept", async () => {
  const asked: unknown[] = [];
  const { url } = await serve((request, response) => {
    asked.push(request.headers["accept-encoding"], request.url);
    response.writeHead(404, { "content-length": 5 }).end("hello");
  });
  const answer = await open.get(`${url}/a?b=c`, OPTIONS);
  expect([answer.status, answer.size]).toEqual([404, 5]);
  expect(new TextDecoder().decode(await collect(answer.body, 10))).toBe("hello");
  expect(asked).toEqual(["identity", "/a?b=c"]);
});

test("the machine itself is refused by address and by name, before a connection is opened", async () => {
  let asked = 0;
  const { port } = await serve((_, response) => {
    asked++;
    response.end();
  });
  for (const host of ["127.0.0.1", "localhost", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]) {
    expect(await failureOf(closed.get(`http://${host}:${port}/`, OPTIONS))).toMatchObject({
      failure: "refused",
      message: expect.stringContaining("GRADIENT_OUTBOUND_ALLOW"),
    });
  }
  expect(asked).toBe(0);
});

test("each hop of a redirect is checked, keeps its scheme, and there are at most five", async () => {
  const { url, port } = await serve((request, response) => {
    const path = request.url ?? "";
    const step = Number(/^\/hop(\d+)$/.exec(path)?.[1] ?? Number.NaN);
    if (step > 0) return void response.writeHead(302, { location: `/hop${step - 1}` }).end();
    if (path === "/away") return void response.writeHead(302, { location: `http://127.0.0.2:${port}/` }).end();
    if (path === "/secure") return void response.writeHead(302, { location: `https://127.0.0.1:${port}/` }).end();
    response.end("here");
  });
  const answer = await open.get(`${url}/hop5`, OPTIONS);
  expect(new TextDecoder().decode(await collect(answer.body, 10))).toBe("here");
  expect(await failureOf(open.get(`${url}/hop6`, OPTIONS))).toMatchObject({ failure: "broken" });
  expect(await failureOf(open.get(`${url}/away`, OPTIONS))).toMatchObject({ failure: "refused" });
  expect(await failureOf(open.get(`${url}/secure`, OPTIONS))).toMatchObject({ failure: "refused" });
  expect(await failureOf(open.get("file:///etc/passwd", OPTIONS))).toMatchObject({ failure: "refused" });
});

test("silence ends after the time that was given, before the headers and in the body", async () => {
  const { url } = await serve((request, response) => {
    if (request.url === "/headers") return;
    response.writeHead(200).write("a beginning");
  });
  expect(await failureOf(open.get(`${url}/headers`, { ...OPTIONS, timeoutMs: 100 }))).toMatchObject({
    failure: "timeout",
  });
  const { body } = await open.get(`${url}/body`, OPTIONS);
  expect(await failureOf(collect(body, 100))).toMatchObject({ failure: "timeout" });
});

test("a reader that takes its time is not silence", async () => {
  const { url } = await serve((_, response) => response.end("x".repeat(400_000)));
  const { body } = await open.get(url, { ...OPTIONS, idleTimeoutMs: 100 });
  let size = 0;
  for await (const chunk of body) {
    if (size === 0) await new Promise((resolve) => setTimeout(resolve, 300));
    size += chunk.length;
  }
  expect(size).toBe(400_000);
});

test("a body that is cut off, or longer than allowed, is an error and never an end", async () => {
  const { url } = await serve((request, response) => {
    if (request.url === "/cut") {
      response.writeHead(200, { "content-length": 1_000 }).write("a part");
      setTimeout(() => response.destroy(), 30);
    } else if (request.url === "/chunked") {
      response.writeHead(200).write("a part");
      setTimeout(() => response.destroy(), 30);
    } else if (request.url === "/long") response.writeHead(200, { "content-length": 2_000_000 }).end("x");
    else for (let i = 0; i < 20; i++) response.write("x".repeat(100_000));
  });
  for (const path of ["/cut", "/chunked"]) {
    const { body } = await open.get(url + path, OPTIONS);
    expect(await failureOf(collect(body, 2_000))).toMatchObject({ failure: "broken" });
  }
  expect(await failureOf(open.get(`${url}/long`, OPTIONS))).toMatchObject({ failure: "too_large" });
  const { body } = await open.get(`${url}/endless`, OPTIONS);
  expect(await failureOf(collect(body, 10_000_000))).toMatchObject({ failure: "too_large" });
});

test("nobody listening and no such name are told apart from what may be better in a moment", async () => {
  const { url } = await serve((_, response) => response.destroy());
  const { port } = await serve(() => {});
  servers.pop()?.close();
  expect(await failureOf(open.get(`http://127.0.0.1:${port}/`, OPTIONS))).toMatchObject({ failure: "unreachable" });
  expect(await failureOf(open.get("http://no-such-host.invalid/", OPTIONS))).toMatchObject({ failure: "unreachable" });
  expect(await failureOf(open.get(url, OPTIONS))).toMatchObject({ failure: "broken" });
  // A network for documentation (RFC 5737): refused here, silence elsewhere.
  const silent = open.get("http://192.0.2.1/", { ...OPTIONS, timeoutMs: 300 });
  expect(await failureOf(silent)).toMatchObject({ failure: "unreachable" });
});

test("the signal ends a request and a body", async () => {
  const { url } = await serve((request, response) => {
    if (request.url === "/body") response.writeHead(200).write("a part");
  });
  const stop = new AbortController();
  const waiting = failureOf(open.get(url, { ...OPTIONS, signal: stop.signal }));
  const { body } = await open.get(`${url}/body`, { ...OPTIONS, signal: stop.signal });
  const reading = failureOf(collect(body, 100));
  setTimeout(() => stop.abort(), 30);
  expect(await waiting).toMatchObject({ failure: "aborted" });
  expect(await reading).toMatchObject({ failure: "aborted" });
});
