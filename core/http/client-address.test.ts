import { expect, test } from "vitest";
import type { IpNetwork } from "../domain/ip-address.ts";
import { parseIpNetwork } from "../domain/ip-address.ts";
import { clientAddress, findClient } from "./client-address.ts";

const trusted = ["127.0.0.1/32", "::1/128", "10.0.0.0/8"].map((text) => parseIpNetwork(text) as IpNetwork);

test("a forwarded address is believed from trusted proxies only, and from the right", () => {
  const cases: [string | null, string | null, string][] = [
    ["203.0.113.9", "1.1.1.1", "203.0.113.9"],
    ["127.0.0.1", null, "127.0.0.1"],
    ["127.0.0.1", "1.1.1.1", "1.1.1.1"],
    ["127.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"],
    ["127.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"],
    ["127.0.0.1", "1.1.1.1, unknown, 10.0.0.2", "10.0.0.2"],
    ["127.0.0.1", "1.1.1.1, ", "127.0.0.1"],
    ["127.0.0.1", "1.1.1.1:4711", "1.1.1.1"],
    ["127.0.0.1", "1.1.1.1:4711, [2001:db8::1]:443", "2001:db8::1"],
    ["127.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2:80", "1.1.1.1"],
    ["127.0.0.1", "[2001:DB8::1]", "2001:db8::1"],
    ["127.0.0.1", "2001:db8::1:443", "2001:db8::1:443"],
    ["127.0.0.1", "[1.1.1.1]:80", "127.0.0.1"],
    ["127.0.0.1", "1.1.1.1:port", "127.0.0.1"],
    ["::ffff:127.0.0.1", "::ffff:1.1.1.1", "1.1.1.1"],
    [null, "1.1.1.1", "1.1.1.1"],
    ["fe80::1%eth0", null, "fe80::1"],
    ["nonsense", "1.1.1.1", "0.0.0.0"],
  ];
  for (const [peer, forwarded, client] of cases) {
    expect([peer, forwarded, clientAddress(peer, forwarded, trusted)]).toEqual([peer, forwarded, client]);
  }
});

test("a proxy that names a client in words nobody can read has the limits of a client", () => {
  for (const forwarded of ["unknown", "_hidden", "1.1.1.1:port", "6.6.6.6, unknown", "unknown, 10.0.0.2"]) {
    const { address, network, trusted: free } = findClient("127.0.0.1", forwarded, trusted);
    expect([forwarded, network, free]).toEqual([forwarded, address, false]);
  }
  for (const forwarded of [null, "", "10.0.0.2"]) {
    expect([forwarded, findClient("127.0.0.1", forwarded, trusted).trusted]).toEqual([forwarded, true]);
  }
});

test("a long chain costs no more than a short one", () => {
  const chain = Array.from({ length: 10_000 }, () => "10.0.0.1").join(",");
  expect(clientAddress("127.0.0.1", `1.1.1.1,${chain}`, trusted)).toBe("10.0.0.1");
});
