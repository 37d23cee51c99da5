import { expect, test } from "vitest";
import { describeNixError, parseNixLogLine } from "./nix-log.ts";

function line(value: unknown): string {
  return `@nix ${JSON.stringify(value)}`;
}

test("an error keeps Nix's words and its place, and loses colours, source and trace", () => {
  const parsed = parseNixLogLine(
    line({
      action: "msg",
      level: 0,
      file: "/nix/store/x-source/flake.nix",
      line: 9,
      column: 174,
      raw_msg: "cannot add \u001b[35;1ma string\u001b[0m to an integer",
      msg: [
        "\u001b[31;1merror:\u001b[0m",
        "       … while calling anonymous lambda",
        "       … while evaluating the option `\u001b[35;1mservices.web\u001b[0m':",
        "       … while evaluating the attribute 'buildInputs' of the derivation 'app'",
        '            9| 1 + "a"',
        "       error: cannot add a string to an integer",
      ].join("\n"),
    }),
  );
  if (parsed?.kind !== "message" || parsed.error === null) throw new Error("it is an error");

  const text = describeNixError(parsed.error, parsed.text, (file) => file.replace("/nix/store/x-source/", ""));
  expect(text).toBe(
    "cannot add a string to an integer\nat flake.nix:9:174\nwhile evaluating the option `services.web'\n" +
      "while evaluating the attribute 'buildInputs' of the derivation 'app'",
  );
});

test("progress and build logs are nothing to tell, other programs' words are", () => {
  expect(parseNixLogLine(line({ action: "start", id: 1, level: 3, text: "building", type: 105 }))).toBeNull();
  expect(parseNixLogLine(line({ action: "result", id: 1, type: 101, fields: ["a line"] }))).toBeNull();
  expect(parseNixLogLine("  ")).toBeNull();
  expect(parseNixLogLine("fatal: no such ref")).toEqual({ kind: "plain", text: "fatal: no such ref" });
  expect(parseNixLogLine("@nix {broken")).toEqual({ kind: "plain", text: "@nix {broken" });
  expect(parseNixLogLine(line(null))).toBeNull();
});

test("a trace that looks like an error is none", () => {
  const parsed = parseNixLogLine(line({ action: "msg", level: 0, msg: "trace: error: nothing" }));
  expect(parsed).toEqual({ kind: "message", level: 0, text: "trace: error: nothing", error: null });
});
