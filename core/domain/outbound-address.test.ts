import { expect, test } from "vitest";
import { type IpNetwork, parseIpNetwork } from "./ip-address.ts";
import { mayConnectTo } from "./outbound-address.ts";

const RULES = { allowed: [], privateAllowed: true };
const LOCAL = [
  "127.0.0.1",
  "127.255.0.3",
  "0.0.0.0",
  "169.254.169.254",
  "224.0.0.1",
  "255.255.255.255",
  "::",
  "::1",
  "::ffff:127.0.0.1",
  "::ffff:a9fe:a9fe",
  "fe80::1",
  "ff02::1",
];
const PRIVATE = ["10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"];
const PUBLIC = ["151.101.1.91", "2a04:4e42::347", "172.32.0.1"];

test("the machine itself, its link and groups are never reached by themselves", () => {
  expect(LOCAL.filter((address) => mayConnectTo(address, RULES))).toEqual([]);
});

test("public networks are reached, private ones unless they are turned off", () => {
  expect([...PUBLIC, ...PRIVATE].filter((address) => !mayConnectTo(address, RULES))).toEqual([]);
  const closed = { ...RULES, privateAllowed: false };
  expect([...PUBLIC, ...PRIVATE].filter((address) => mayConnectTo(address, closed))).toEqual(PUBLIC);
});

test("what the operator lists is reached, and nothing beside it", () => {
  const allowed = [parseIpNetwork("127.0.0.1") as IpNetwork, parseIpNetwork("10.0.0.0/8") as IpNetwork];
  const listed = [...LOCAL, ...PRIVATE].filter((address) => mayConnectTo(address, { allowed, privateAllowed: false }));
  expect(listed).toEqual(["127.0.0.1", "::ffff:127.0.0.1", "10.1.2.3"]);
});

test("a name is no address", () => {
  expect(["", "localhost", "1.2.3", "example.org"].filter((text) => mayConnectTo(text, RULES))).toEqual([]);
});
