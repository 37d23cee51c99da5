// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the strings are source texts with templates in them
import { expect, test } from "vitest";
import { readSource } from "./source-text.ts";

test("strings, templates, comments and regular expressions are blanked, and everything keeps its place", () => {
  const text = 'const a = "x{" + `y${b + "}"}z{` + /["{/]/.source; // end {\n/* { */ const c = d / e;\n';
  const { code, comments } = readSource(text);
  expect(code.length).toBe(text.length);
  expect(code).toBe('const a = "  " + `  {b + " "}  ` + /     /.source;         \n        const c = d / e;\n');
  expect(comments.trim()).toBe("// end {\n/* { */");
});

test("a division after a bracket is no regular expression", () => {
  expect(readSource("const a = (b) / 2 + c[0] / d; const q = 'x';").code).toBe(
    "const a = (b) / 2 + c[0] / d; const q = ' ';",
  );
});

test("a template inside a template ends where it ends", () => {
  expect(readSource("`a${`b${c}`}d`; e").code).toBe("`  {`  {c}`} `; e");
});

test("a quote that is never closed swallows one line, not the file", () => {
  expect(readSource("const a = 'x\nconst b = 1;").code).toContain("const b = 1;");
});
