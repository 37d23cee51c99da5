import type { IncomingMessage } from "node:http";
import { expect, test } from "vitest";
import { type IpNetwork, parseIpNetwork } from "#core/domain/ip-address.ts";
import { createClientFinder } from "./client-of.ts";

const PROXIES = ["127.0.0.1/32", "10.0.0.0/8"].map((text) => parseIpNetwork(text) as IpNetwork);

function request(peer: string, ...forwarded: string[]): IncomingMessage {
  const rawHeaders = ["Host", "x", ...forwarded.flatMap((value) => ["X-Forwarded-For", value])];
  return { socket: { remoteAddress: peer }, rawHeaders } as unknown as IncomingMessage;
}

test("a client is who connects, or who a trusted proxy says it is: by the last of all lines of the header", () => {
  const clientOf = createClientFinder(PROXIES);
  const cases: [IncomingMessage, string, boolean][] = [
    [request("203.0.113.9"), "203.0.113.9", false],
    [request("203.0.113.9", "198.51.100.1"), "203.0.113.9", false],
    [request("127.0.0.1"), "127.0.0.1", true],
    [request("127.0.0.1", "198.51.100.1"), "198.51.100.1", false],
    [request("127.0.0.1", "6.6.6.6", "198.51.100.1"), "198.51.100.1", false],
    [request("127.0.0.1", "6.6.6.6, 198.51.100.1", "10.0.0.2"), "198.51.100.1", false],
    // A proxy that says something that nobody can read is held to the pace of one client.
    [request("10.0.0.3", "nonsense"), "10.0.0.3", false],
    [request("10.0.0.3", "198.51.100.1:4711"), "198.51.100.1", false],
  ];
  for (const [asked, address, trusted] of cases) expect(clientOf(asked)).toMatchObject({ address, trusted });
});

test("a connection that was reset is nobody's: what it says of itself is not believed", () => {
  const clientOf = createClientFinder(PROXIES);
  const gone = { ...request("", "198.51.100.1"), socket: { remoteAddress: undefined } } as unknown as IncomingMessage;

  expect(clientOf(gone)).toEqual({ address: "0.0.0.0", network: "0.0.0.0", trusted: false });
});

test("requests on one connection may come from different clients of a proxy", () => {
  const clientOf = createClientFinder(PROXIES);
  const first = request("127.0.0.1", "198.51.100.1");
  const second = { ...request("127.0.0.1", "198.51.100.2"), socket: first.socket } as unknown as IncomingMessage;

  expect([first, second, first].map((asked) => clientOf(asked).address)).toEqual([
    "198.51.100.1",
    "198.51.100.2",
    "198.51.100.1",
  ]);
});

test("what proxies have said is remembered for a bounded number of clients, and is right for all of them", () => {
  const clientOf = createClientFinder(PROXIES);
  for (let i = 0; i < 5_000; i++) {
    const address = `198.51.${i >> 8}.${i & 255}`;
    expect(clientOf(request("127.0.0.1", address)).address).toBe(address);
  }
});
