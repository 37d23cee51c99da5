import fc from "fast-check";
import { expect, test } from "vitest";
import { byteStringOf } from "../byte-string.ts";
import type { StorePath } from "../store-path.ts";
import { type BasicDerivation, readBuildResult, writeBasicDerivation } from "./build.ts";
import { DaemonProtocolError } from "./errors.ts";
import { DaemonReader, sourceOf } from "./reader.ts";
import { DaemonWriter } from "./writer.ts";

const HASH = "0123456789abcdfghijklmnpqrsvwxyz";
const PATH = `/nix/store/${HASH}-hi` as StorePath;
const REALISATION = `sha256:${"ab".repeat(32)}!out`;

function answer({ minor, status, realisation }: { minor: number; status: number; realisation: string }): DaemonReader {
  const writer = new DaemonWriter().word(status).text("\x1b[31mno\x1b[0m").word(1).boolean(false).word(5).word(6);
  if (minor >= 37) writer.word(1).word(1_500).word(0);
  writer.word(1).text(REALISATION).text(realisation);
  return new DaemonReader(sourceOf(writer.finish()));
}

const good = JSON.stringify({
  id: REALISATION,
  outPath: `${HASH}-hi`,
  signatures: ["k:c2ln"],
  dependentRealisations: {},
});

test.each([34, 35, 36, 37, 38])("a build result of protocol 1.%i is read to its end", async (minor) => {
  const result = await readBuildResult(answer({ minor, status: 0, realisation: good }), minor);
  expect(result).toMatchObject({ status: "built", success: true, message: "no", startTimeSeconds: 5 });
  expect(result.cpuUserMicroseconds).toBe(minor >= 37 ? 1_500 : null);
  expect(result.builtOutputs).toMatchObject([{ outputName: "out", path: PATH, signatures: ["k:c2ln"] }]);
});

test.each([
  [1, "substituted", true],
  [2, "already-valid", true],
  [3, "permanent-failure", false],
  [8, "timed-out", false],
  [10, "dependency-failed", false],
  [13, "resolves-to-already-valid", true],
  [14, "no-substituters", false],
  [99, "unknown", false],
])("status %i is %s, success %s", async (status, name, success) => {
  const result = await readBuildResult(answer({ minor: 34, status, realisation: good }), 34);
  expect(result).toMatchObject({ status: name, statusCode: status, success });
});

test.each(["", "[]", "null", '{"outPath":1}', '{"outPath":"no store path"}', '{"outPath":"x","signatures":[1]}'])(
  "the realisation %j is refused",
  async (realisation) => {
    const reader = answer({ minor: 34, status: 0, realisation });
    await expect(readBuildResult(reader, 34)).rejects.toThrow(DaemonProtocolError);
  },
);

test("whatever bytes arrive, reading a build result ends with a stated reason or a result", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      const ended = await readBuildResult(new DaemonReader(sourceOf(bytes)), 38).catch((error: unknown) => error);
      if (ended instanceof Error) expect(ended).toBeInstanceOf(DaemonProtocolError);
    }),
  );
});

test("a derivation goes out with the address of its fixed output and its bytes as they are", async () => {
  const derivation: BasicDerivation = {
    outputs: new Map([["out", { path: PATH, hashAlgorithm: "r:sha256", hash: "ab".repeat(32) }]]),
    inputSources: [PATH],
    system: "x86_64-linux",
    builder: "/bin/sh",
    args: ["-c", byteStringOf(new Uint8Array([0xff, 0x20]))],
    env: new Map([["out", PATH as string]]),
  };
  const writer = new DaemonWriter();
  writeBasicDerivation(writer, derivation);

  const bytes = writer.finish();
  const reader = new DaemonReader(sourceOf(bytes));
  expect(await reader.number("outputs")).toBe(1);
  expect([await reader.text("name"), await reader.text("path")]).toEqual(["out", PATH]);
  expect([await reader.text("algorithm"), await reader.text("hash")]).toEqual(["r:sha256", "ab".repeat(32)]);
  expect(await reader.texts("sources")).toEqual([PATH]);
  expect([await reader.text("system"), await reader.text("builder")]).toEqual(["x86_64-linux", "/bin/sh"]);
  expect(await reader.list("args", () => reader.displayText("argument", 10))).toEqual(["-c", "� "]);
  expect(await reader.number("env")).toBe(1);
});
