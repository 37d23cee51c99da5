import { expect, test } from "vitest";
import { DaemonProtocolError } from "./errors.ts";
import { encodeHello, encodeIntroduction, readHello, readIntroduction } from "./handshake.ts";
import { DAEMON_MAGIC } from "./numbers.ts";
import { DaemonReader, sourceOf } from "./reader.ts";
import { DaemonWriter } from "./writer.ts";

const readerOf = (writer: DaemonWriter) => new DaemonReader(sourceOf(writer.finish()));
const hello = (version: number) => readerOf(new DaemonWriter().word(DAEMON_MAGIC).word(version));

test("the lower of both versions is spoken", async () => {
  expect(await readHello(hello(0x122))).toBe(34);
  expect(await readHello(hello(0x126))).toBe(38);
  expect(await readHello(hello(0x130))).toBe(38);
});

test("a daemon older than Nix 2.8, of another major version, or of another kind is named as such", async () => {
  await expect(readHello(hello(0x121))).rejects.toThrow(/speaks protocol 1\.33; 1\.34 \(Nix 2\.8\) or later/);
  await expect(readHello(hello(0x226))).rejects.toThrow(/speaks protocol 2\.38/);
  await expect(readHello(readerOf(new DaemonWriter().word(0x48545450)))).rejects.toThrow(/not a nix-daemon/);
});

test("features are exchanged from 1.38 on, and we announce none", async () => {
  expect(encodeHello().length).toBe(16);
  expect(encodeIntroduction(37).length).toBe(16);
  expect(encodeIntroduction(38).length).toBe(24);
  const introduction = new DaemonWriter().texts(["some-feature"]).text("2.35.0").word(1);
  expect(await readIntroduction(readerOf(introduction), 38)).toEqual({
    minor: 38,
    nixVersion: "2.35.0",
    trust: "trusted",
  });
});

test("trust is unknown before 1.35", async () => {
  expect(await readIntroduction(readerOf(new DaemonWriter().text("2.8.0")), 34)).toMatchObject({ trust: "unknown" });
  const strange = readerOf(new DaemonWriter().text("2.8.0").word(3));
  await expect(readIntroduction(strange, 35)).rejects.toThrow(DaemonProtocolError);
});
