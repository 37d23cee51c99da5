import fc from "fast-check";
import { expect, test } from "vitest";
import { formatIpAddress, formatIpNetwork, networkContains, parseIpAddress, parseIpNetwork } from "./ip-address.ts";

test("addresses are read exactly and written in their canonical form", () => {
  const cases: [string, string | null][] = [
    ["127.0.0.1", "127.0.0.1"],
    ["::", "::"],
    ["::1", "::1"],
    ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
    ["fe80::", "fe80::"],
    ["0:0:0:1::", "0:0:0:1::"],
    ["::ffff:10.0.0.1", "10.0.0.1"],
    ["64:ff9b::10.0.0.1", "64:ff9b::a00:1"],
    ["256.0.0.1", null],
    ["1.2.3", null],
    ["01.2.3.4", null],
    ["1.2.3.4.5", null],
    ["", null],
    [":::", null],
    ["1::2::3", null],
    ["1:2:3:4:5:6:7:8:9", null],
    ["1:2:3:4:5:6:7:8::", null],
    ["12345::", null],
    ["::1%eth0", null],
    ["g::", null],
    ["1.2.3.4::", null],
  ];
  for (const [text, canonical] of cases) {
    const bytes = parseIpAddress(text);
    expect([text, bytes && formatIpAddress(bytes)]).toEqual([text, canonical]);
  }
});

test("every address survives being written and read", () => {
  const byte = fc.constantFrom(0, 0, 0, 1, 255, 16);
  const address = fc.oneof(
    fc.array(byte, { minLength: 4, maxLength: 4 }),
    fc.array(byte, { minLength: 16, maxLength: 16 }),
  );
  fc.assert(
    fc.property(address, (bytes) => {
      const text = formatIpAddress(bytes);
      const read = parseIpAddress(text);
      expect(read && formatIpAddress(read)).toBe(text);
    }),
  );
});

test("a network holds the addresses that share its prefix, of its own family only", () => {
  const cases: [string, string, boolean][] = [
    ["10.0.0.0/8", "10.255.0.1", true],
    ["10.0.0.0/8", "11.0.0.1", false],
    ["10.0.0.128/25", "10.0.0.127", false],
    ["10.0.0.128/25", "10.0.0.200", true],
    ["0.0.0.0/0", "8.8.8.8", true],
    ["0.0.0.0/0", "::1", false],
    ["::/0", "8.8.8.8", false],
    ["::/0", "fe80::1", true],
    ["192.168.1.7", "192.168.1.7", true],
    ["192.168.1.7", "192.168.1.6", false],
    ["::ffff:10.0.0.0/104", "10.9.9.9", true],
    ["fd00::/7", "fc00::1", true],
    ["fd00::/8", "fc00::1", false],
    ["10.0.0.0/8", "nonsense", false],
  ];
  for (const [text, address, inside] of cases) {
    const network = parseIpNetwork(text);
    expect([text, address, network && networkContains(network, address)]).toEqual([text, address, inside]);
  }
});

test("a network that is none is refused", () => {
  for (const text of ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "10/8", "/8", "x"]) {
    expect([text, parseIpNetwork(text)]).toEqual([text, null]);
  }
  const alone = parseIpNetwork("::1");
  expect(alone && formatIpNetwork(alone)).toBe("::1/128");
});
