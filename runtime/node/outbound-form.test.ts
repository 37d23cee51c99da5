import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { collect } from "#core/lib/streams.ts";
import { createOutbound } from "./outbound.ts";

const OPTIONS = { timeoutMs: 20_000, idleTimeoutMs: 20_000, bytesMax: 1_000 };
const RULES = { allowed: [], privateAllowed: true };
const asked: string[] = [];
const server = createServer((request, response) => void answer(request, response));
let port: number;
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method, url, headers } = request;
  asked.push([method, url, headers["content-type"], headers["x-more"], await text(request)].join(" "));
  if (url === "/moved") response.writeHead(307, { location: "/other" }).end();
  else response.writeHead(201).end("taken");
}

test("a form is sent as one, and its answer comes back", async () => {
  const outbound = createOutbound(RULES, { ownHost: "127.0.0.1" });
  const url = `http://127.0.0.1:${port}/form`;
  const sent = await outbound.postForm(url, "a=1&b=%C3%A9", { ...OPTIONS, headers: { "x-more": "yes" } });
  expect(sent.status).toBe(201);
  expect(new TextDecoder().decode(await collect(sent.body, 100))).toBe("taken");
  expect(asked.splice(0)).toEqual(["POST /form application/x-www-form-urlencoded;charset=UTF-8 yes a=1&b=%C3%A9"]);
  outbound.close();
});

test("what was sent follows no redirect", async () => {
  const outbound = createOutbound(RULES, { ownHost: "127.0.0.1" });
  const moved = await outbound.postForm(`http://127.0.0.1:${port}/moved`, "secret=1", OPTIONS);
  moved.discard();
  expect(moved.status).toBe(307);
  expect(asked.splice(0)).toHaveLength(1);
  outbound.close();
});

test("the operator's own host may be this machine, by address and by name; no other host may", async () => {
  const byAddress = createOutbound(RULES, { ownHost: "127.0.0.1" });
  const byName = createOutbound(RULES, { ownHost: "localhost" });
  const none = createOutbound(RULES);
  const ask = async (outbound: ReturnType<typeof createOutbound>, host: string) =>
    await outbound.get(`http://${host}:${port}/`, OPTIONS).then(
      (found) => {
        found.discard();
        return found.status;
      },
      (error) => error.failure,
    );
  expect(await ask(byAddress, "127.0.0.1")).toBe(201);
  expect(await ask(byAddress, "localhost")).toBe("refused");
  expect(await ask(byAddress, "127.0.0.2")).toBe("refused");
  expect(await ask(byName, "localhost")).toBe(201);
  expect(await ask(byName, "127.0.0.1")).toBe("refused");
  expect(await ask(none, "127.0.0.1")).toBe("refused");
  for (const outbound of [byAddress, byName, none]) outbound.close();
});
