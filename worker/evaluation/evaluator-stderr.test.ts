import { expect, test } from "vitest";
import { type EvaluatorMessage, EvaluatorStderr } from "./evaluator-stderr.ts";

test("the address of the caches holds a secret, and is in no message and no error", () => {
  const messages: EvaluatorMessage[] = [];
  const onMessage = (message: EvaluatorMessage) => void messages.push(message);
  const stderr = new EvaluatorStderr({ onReport() {}, onMessage }, "mark", () => {});
  const secret = "0123456789abcdef".repeat(2);
  const msg = `unable to download 'http://127.0.0.1:40123/${secret}/x.narinfo': HTTP error 500`;
  stderr.read(`@nix ${JSON.stringify({ action: "msg", level: 1, msg: `warning: ${msg}` })}`);
  stderr.read(`@nix ${JSON.stringify({ action: "msg", level: 0, msg: `error: ${msg}`, raw_msg: msg })}`);
  stderr.read(`error: ${msg}`);

  expect(messages.map(({ text }) => text)).toEqual([
    "unable to download 'gradient://caches/x.narinfo': HTTP error 500",
  ]);
  expect(stderr.describeFailure((file) => file)).toContain("gradient://caches/x.narinfo");
  expect(`${stderr.describeFailure((file) => file)}${stderr.plainText()}`).not.toContain(secret);
});
