// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the strings are source texts with templates in them
import { expect, test } from "vitest";
import { functionLengths } from "./function-lengths.ts";

const lengths = (text: string) => functionLengths(text).map(({ line, lines }) => [line, lines]);

test.each([
  ["a function", "function a(b: string) {\n}"],
  ["a return type", "async function a(): Promise<Map<string, { b: 1 }>> {\n}"],
  ["a return type in braces", "function a(): { b: string } {\n}"],
  ["a type predicate", "function a(b: unknown): b is (string | number)[] {\n}"],
  ["an arrow function", "const a = async (b) => {\n};"],
  ["an arrow function with a return type", "const a = (b): void => {\n};"],
])("counts %s from brace to brace", (_, text) => {
  expect(lengths(text)).toEqual([[1, 2]]);
});

test("counts methods and generators, nested ones too", () => {
  const text = "class A {\n  get b(): number {\n    return 1;\n  }\n  *c() {\n    d(() => {\n    });\n  }\n}";
  expect(lengths(text)).toEqual([
    [2, 3],
    [6, 2],
    [5, 4],
  ]);
});

test.each([
  ["conditions and loops", "if (a) {\n} else {\n}\nfor (const a of b()) {\n}\nwhile (c) {\n}\nswitch (d) {\n}"],
  ["types and classes", "type A = {\n};\ninterface B {\n}\nclass C extends D {\n}"],
  ["objects and modules", 'const a = {\n};\nimport {\n b } from "c";\nexport {\n};'],
  ["a catch", "try {\n} catch (e) {\n} finally {\n}"],
])("does not take %s for functions", (_, text) => {
  expect(lengths(text)).toEqual([]);
});

test("does not take an interface for a function because one stands above it", () => {
  expect(lengths("function a(): void {\n}\ninterface B {\n\n\n}")).toEqual([[1, 2]]);
});

test("knows the bodies of describe apart", () => {
  const text = 'describe.skipIf(!a.ok)(`b ${c()}`, () => {\n  test("d", () => {\n  });\n  const e = () => {\n  };\n});';
  expect(functionLengths(text).map((one) => one.describes)).toEqual([false, false, true]);
});
