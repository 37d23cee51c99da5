// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the strings are source texts with templates in them
import { describe, expect, test } from "vitest";
import { checkLayers } from "./layer-rules.ts";

function messages(path: string, ...lines: string[]): string[] {
  return checkLayers(new Map([[path, lines.join("\n")]])).map(({ line, message }) => `${line} ${message}`);
}

describe("the check of the layers", () => {
  test("accepts what the table allows", () => {
    expect(messages("core/services/builds.ts", 'import { findBuild } from "../db/builds.ts";')).toEqual([]);
    expect(messages("core/db/builds.ts", 'import type { Kysely } from "kysely";')).toEqual([]);
    expect(messages("runtime/node/main.ts", 'import { app } from "#handlers/app.ts";', 'import "node:fs";')).toEqual(
      [],
    );
    expect(messages("handlers/app.ts", 'import { cors } from "hono/cors";')).toEqual([]);
    expect(messages("runtime/node/http.ts", 'import { serve } from "@hono/node-server";')).toEqual([]);
  });

  test("refuses a forbidden folder with file, line, rule and what to do instead", () => {
    const [violation] = checkLayers(
      new Map([["core/domain/a.ts", 'import { b } from "./b.ts";\nimport type { C } from "../db/c.ts";\n']]),
    );
    expect(violation).toMatchObject({ path: "core/domain/a.ts", line: 2 });
    expect(violation?.message).toContain("core/domain may not import core/db");
    expect(violation?.message).toContain("pass the facts in as plain values");
  });

  test.each([
    ["a type import", 'import type { A } from "#core/db/a.ts";'],
    ["a type import of a default", 'import type A from "#core/db/a.ts";'],
    ["a dynamic import", 'const a = await import("#core/db/a.ts");'],
    ["a type written as an import", 'let a: import("#core/db/a.ts").A;'],
    ["a re-export", 'export { a } from "#core/db/a.ts";\nexport const b = 1;'],
    ["an import for its effects", 'import "#core/db/a.ts";'],
    ["an import over several lines", 'import {\n  a,\n  type B,\n} from "#core/db/a.ts";'],
  ])("sees %s", (_, text) => {
    expect(messages("worker/main.ts", text)).toEqual([expect.stringContaining("worker may not import core/db")]);
  });

  test("does not take words in comments and strings for imports", () => {
    const comment = '// import { a } from "../db/a.ts";';
    const text = "const text = 'import { a } from \"../db/a.ts\"';";
    const template = 'const template = `import "node:fs"; ${text}`;';
    expect(messages("core/nix/a.ts", comment, text, template, "const re = /import 'node:fs'/;")).toEqual([]);
  });

  test("keeps Node out of core and handlers, also by its bare names and by reference", () => {
    expect(messages("core/lib/a.ts", 'import { join } from "node:path";')).toHaveLength(1);
    expect(messages("handlers/a.ts", 'import { join } from "path";')).toHaveLength(1);
    expect(messages("core/lib/a.ts", '/// <reference types="node" />')).toHaveLength(1);
    expect(messages("core/lib/a.ts", 'import { env } from "cloudflare:workers";')).toHaveLength(1);
  });

  test("lets what runs on Workers have only the modules of Node that its folder names", () => {
    expect(messages("runtime/common/a.ts", 'import { createGunzip } from "node:zlib";')).toEqual([]);
    expect(messages("runtime/common/a.ts", 'import { readFile } from "node:fs/promises";')).toHaveLength(1);
    expect(messages("runtime/cloudflare/a.ts", 'import { connect } from "node:net";')).toHaveLength(1);
  });

  test("keeps packages to the folders that may use them", () => {
    expect(messages("core/services/a.ts", 'import { Pool } from "pg";')).toEqual([
      expect.stringContaining("core/services may not import the package pg"),
    ]);
    expect(messages("core/nix/a.ts", 'import * as v from "valibot";')).toHaveLength(1);
  });

  test("lets the tests of a folder use Node, vitest and test/, and nothing else beyond its layer", () => {
    const head = ['import { test } from "vitest";', 'import "node:fs";', 'import { db } from "#test/support/db.ts";'];
    expect(messages("core/nix/a.test.ts", ...head)).toEqual([]);
    expect(messages("core/nix/a.test.ts", 'import { b } from "../services/b.ts";')).toHaveLength(1);
  });

  test("lets nothing of the product depend on tools and tests", () => {
    expect(messages("worker/a.ts", 'import { a } from "#test/support/a.ts";')).toHaveLength(1);
    expect(messages("worker/a.ts", 'import { a } from "./b.test.ts";')).toHaveLength(1);
  });

  test("wants # paths between top folders", () => {
    expect(messages("worker/a.ts", 'import { b } from "../core/lib/b.ts";')).toEqual([
      '1 "../core/lib/b.ts" leaves worker by a relative path: write "#core/lib/b.ts"',
    ]);
  });

  test("reports barrels, and files that no folder of the table holds", () => {
    expect(messages("core/nix/index.ts", 'export * from "./a.ts";', 'export { b } from "./b.ts";')).toEqual([
      expect.stringContaining("import each name from its own file"),
    ]);
    expect(messages("core/utils/a.ts", "export const a = 1;")).toEqual([
      expect.stringContaining("no folder of the table"),
    ]);
  });

  test("reports a cycle in core once, also one of types alone", () => {
    const files = new Map([
      ["core/nix/a.ts", 'import type { B } from "./b.ts";'],
      ["core/nix/b.ts", '\nimport { c } from "./c.ts";'],
      ["core/nix/c.ts", 'import { a } from "./a.ts";'],
    ]);
    const violations = checkLayers(files);
    expect(violations).toHaveLength(1);
    expect(violations[0]?.message).toContain("core/nix/a.ts -> core/nix/b.ts -> core/nix/c.ts -> core/nix/a.ts");
  });
});
