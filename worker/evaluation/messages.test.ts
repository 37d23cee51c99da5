import { expect, test } from "vitest";
import { type EvaluationMessage, MessageFilter } from "./messages.ts";

function collect() {
  const passed: EvaluationMessage[] = [];
  const filter = new MessageFilter((message) => void passed.push(message), 1_000);
  const add = (level: EvaluationMessage["level"], text: string, attribute: readonly string[] | null = null) =>
    filter.add({ level, text, source: "evaluation", attribute });
  return { passed, add };
}

test("the same warning of several evaluators is passed once, errors each time", () => {
  const { passed, add } = collect();
  for (const name of ["a", "b"]) {
    add("warning", "it is old", [name]);
    add("error", "it fails", [name]);
  }
  expect(passed.map(({ level, attribute }) => [level, attribute])).toEqual([
    ["warning", ["a"]],
    ["error", ["a"]],
    ["error", ["b"]],
  ]);
});

test("a flood of traces ends with one word about it, and errors still come through", () => {
  const { passed, add } = collect();
  for (let i = 0; i < 5_000; i++) add("notice", `trace ${i}`);
  add("error", "it fails");

  expect(passed).toHaveLength(1_002);
  expect(passed.at(-2)?.text).toMatch(/were dropped/);
  expect(passed.at(-1)?.text).toBe("it fails");
});

test("no message is longer than 8 000 characters, and after many long errors they are short", () => {
  const { passed, add } = collect();
  for (let i = 0; i < 1_100; i++) add("error", "x".repeat(20_000), [String(i)]);

  expect(passed).toHaveLength(1_100);
  expect(passed[0]?.text).toHaveLength(8_001);
  expect(passed.at(-1)?.text).toHaveLength(301);
});
