import { expect, test } from "vitest";
import { findDecisiveLines } from "./decisive-lines.ts";

function linesOf(log: string): { phase: string | null; texts: string[]; numbers: number[] } {
  const { phase, lines } = findDecisiveLines(log.split("\n"), 1);
  return { phase, texts: lines.map(({ text }) => text), numbers: lines.map(({ number }) => number) };
}

test("of a compiler's log the error is shown with what it points to, and not the noise before it", () => {
  const noise = Array.from({ length: 200 }, (_, i) => `gcc -Wall -Werror -c file${i}.c`).join("\n");
  const log = `@nix {"action":"setPhase","phase":"configurePhase"}
checking for error_at_line... no
error: only a probe of configure
@nix {"action":"setPhase","phase":"buildPhase"}
${noise}
main.c: In function 'main':
main.c:3:5: error: 'x' undeclared (first use in this function)
    3 |     x = 1;
      |     ^
make: *** [Makefile:2: main.o] Error 1`;
  expect(linesOf(log)).toEqual({
    phase: "buildPhase",
    texts: [
      "main.c: In function 'main':",
      "main.c:3:5: error: 'x' undeclared (first use in this function)",
      "    3 |     x = 1;",
      "      |     ^",
      "make: *** [Makefile:2: main.o] Error 1",
    ],
    numbers: [205, 206, 207, 208, 209],
  });
});

test("lines that only hold the words of errors do not count as errors", () => {
  const log = "Running phase: checkPhase\nran 3 tests: 0 failed, 0 errors\ntest error_path ... ok\nnothing more";
  expect(linesOf(log)).toEqual({
    phase: "checkPhase",
    texts: ["ran 3 tests: 0 failed, 0 errors", "test error_path ... ok", "nothing more"],
    numbers: [2, 3, 4],
  });
});

test("errors are known in the words of many tools, and warnings are none", () => {
  const errors = [
    "E   AssertionError: assert 1 == 2",
    "FAILED tests/test_site.py::test_page - KeyError: 'x'",
    "error[E0308]: mismatched types",
    "npm ERR! code ELIFECYCLE",
    "--- FAIL: TestPage (0.00s)",
    "panic: runtime error: index out of range",
    "CMake Error at CMakeLists.txt:3 (message):",
    "ninja: build stopped: subcommand failed.",
    "install: cannot stat 'x': No such file or directory",
    "Foo.hs:3:5: error: Variable not in scope: x",
    "java.lang.NullPointerException",
    "ld: main.o: undefined reference to `x'",
    "Segmentation fault (core dumped)",
  ];
  const quiet = ["a", "b", "c", "d", "e"].map((name) => `x.c: warning: function 'error_${name}' cannot be inlined`);
  for (const error of errors) {
    const { texts } = linesOf(["start", ...quiet, error, ...Array.from({ length: 30 }, () => "quiet")].join("\n"));
    expect(texts, error).toEqual([quiet.at(-1), error, "quiet", "quiet"]);
  }
});

test("where nothing looks like an error the last lines are shown", () => {
  const log = Array.from({ length: 40 }, (_, i) => `step ${i}`).join("\n");
  const { phase, texts } = linesOf(log);
  expect([phase, texts.length, texts[0], texts.at(-1)]).toEqual([null, 12, "step 28", "step 39"]);
});

test("of a phase that said nothing, what stands before it is shown", () => {
  expect(linesOf("building\nhello\nRunning phase: fixupPhase\n").texts).toEqual(["building", "hello"]);
});

test("colours, overwritten progress and control characters are not shown, and long lines are cut", () => {
  const long = `error: ${"x".repeat(5_000)}`;
  const { texts } = linesOf(`\x1b[31merror\x1b[0m: red\n10%\r50%\rerror: done\r\nerror: bell\x07\n${long}`);
  expect(texts.slice(0, 3)).toEqual(["error: red", "error: done", "error: bell"]);
  expect(texts[3]).toHaveLength(400);
});

test("however many errors there are, the last ones are shown and no more than fit", () => {
  const log = Array.from({ length: 1_000 }, (_, i) => `error: number ${i}`).join("\n");
  const { texts, numbers } = linesOf(log);
  expect([texts.length, texts.at(-1), numbers.at(-1)]).toEqual([25, "error: number 999", 1_000]);
});
