import { getEventListeners } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { connectToServer } from "./connect.ts";

test("a connection that fails leaves nothing behind on the signal it was given", async () => {
  const server = createServer((_request, response) => void response.writeHead(503).end());
  onTestFinished(() => void server.close());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { signal } = new AbortController();
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/proto`;

  await expect(connectToServer(url, signal)).rejects.toThrow("answered 503: it has no place");
  await expect(connectToServer("http://127.0.0.1:1/proto", signal)).rejects.toThrow("ECONNREFUSED");

  await expect.poll(() => getEventListeners(signal, "abort")).toEqual([]);
});
