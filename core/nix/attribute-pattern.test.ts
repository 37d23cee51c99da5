import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AttributePathError } from "./attribute-path.ts";
import {
  AttributePatternError,
  formatAttributePath,
  formatSegments,
  parseAttributePath,
  parseAttributePatterns,
} from "./attribute-pattern.ts";

const any = { kind: "any" } as const;
const anyShallow = { kind: "anyShallow" } as const;
const name = (text: string) => ({ kind: "name", name: text }) as const;

describe("attribute patterns", () => {
  test("names, wildcards and exclusions are told apart, in any order", () => {
    const text = '!packages.x86_64-linux."python3.12", packages.*.#,checks.x86_64-linux.* , a."b.c,d".#.e';
    expect(parseAttributePatterns(text)).toEqual({
      includes: [
        [name("packages"), any, anyShallow],
        [name("checks"), name("x86_64-linux"), any],
        [name("a"), name("b.c,d"), anyShallow, name("e")],
      ],
      excludes: [["packages", "x86_64-linux", "python3.12"]],
    });
  });

  test("a run of * is one, a run of # is not", () => {
    expect(parseAttributePatterns("packages.*.*").includes).toEqual([[name("packages"), any]]);
    expect(parseAttributePatterns("*.*.a.*").includes).toEqual([[any, name("a"), any]]);
    expect(parseAttributePatterns("packages.#.#").includes).toEqual([[name("packages"), anyShallow, anyShallow]]);
    expect(parseAttributePatterns("#.a").includes).toEqual([[anyShallow, name("a")]]);
    expect(parseAttributePatterns("*").includes).toEqual([[any]]);
  });

  test.each([
    ["", "no pattern"],
    [" a", "remove it"],
    ["a\n", "remove it"],
    ["a,", "pattern 2 is empty"],
    ["a,,b", "pattern 2 is empty"],
    [",a", "pattern 1 is empty"],
    ["a, ,b", "pattern 2 is empty"],
    ["a b", "holds a space"],
    ['a."b c"', "holds a space"],
    [".#hello", "starts with a dot"],
    ["a..b", "empty name at character 3"],
    ["a.", "ends with a dot"],
    ["#", "top level"],
    ["!", "excludes nothing"],
    ["a,!b.*", "pattern 2 (!b.*) excludes with * or #"],
    ["a,!b.#", "excludes with * or #"],
    ["a.!b", "not at its start"],
    ["a,!!b", "not at its start"],
    ['a."*"', "quoted *"],
    ['a."#"', "quoted #"],
    ['"!".a', "quoted !"],
    ["python*", "part of a name"],
    ["nixpkgs#hello", "part of a name"],
    ['a."b', "not closed"],
    ['a.b"c"', "quote the whole name"],
    ["!a", "every pattern excludes"],
    ["x".repeat(20_000), "longer than"],
    [Array(300).fill("a").join(","), "more than 256"],
    [Array(70).fill("a").join("."), "more than 64 names"],
  ])("%j is refused with the reason", (text, message) => {
    expect(() => parseAttributePatterns(text)).toThrow(message);
    expect(() => parseAttributePatterns(text)).toThrow(AttributePatternError);
  });

  test("any text is refused by the parser's own error, or is what its patterns say when written again", () => {
    const anyText = fc.string({ unit: fc.constantFrom(...'ab.*#!", \\') });
    fc.assert(
      fc.property(fc.oneof(anyText, fc.string()), (text) => {
        try {
          const { includes, excludes } = parseAttributePatterns(text);
          const again = [...includes.map(formatSegments), ...excludes.map((path) => `!${formatAttributePath(path)}`)];
          expect(parseAttributePatterns(again.join(","))).toEqual({ includes, excludes });
        } catch (error) {
          if (!(error instanceof AttributePatternError)) throw error;
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe("attribute paths", () => {
  test("names are quoted only where they must be", () => {
    expect(formatAttributePath(["packages", "x86_64-linux", "hello"])).toBe("packages.x86_64-linux.hello");
    expect(formatAttributePath(["a", "python3.12", 'say "hi"', "\\", ""])).toBe(
      'a."python3.12"."say \\"hi\\""."\\\\".""',
    );
    expect(formatAttributePath([])).toBe("");
  });

  test("any path survives being written down", () => {
    const anySegment = fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'a."\\ ,*\n') }));
    fc.assert(
      fc.property(fc.array(anySegment, { maxLength: 6 }), (path) => {
        expect(parseAttributePath(formatAttributePath(path))).toEqual(path);
      }),
    );
  });

  test("what is no path is refused with the place", () => {
    expect(() => parseAttributePath("a..b")).toThrow("at character 3");
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'ab."\\') }), (text) => {
        try {
          expect(parseAttributePath(formatAttributePath(parseAttributePath(text)))).toEqual(parseAttributePath(text));
        } catch (error) {
          if (!(error instanceof AttributePathError)) throw error;
        }
      }),
    );
  });
});
