import { expect, test } from "vitest";
import { packageVersion } from "./package-version.ts";

test("names are divided from versions as Nix divides them", () => {
  const names: [string, string, string | null][] = [
    ["hello-2.12.1", "hello", "2.12.1"],
    ["nixos-system-web-24.11.20250101.abcdef0", "nixos-system-web", "24.11.20250101.abcdef0"],
    ["python3.12-requests-2.31.0", "python3.12-requests", "2.31.0"],
    ["source", "source", null],
    ["gcc-wrapper", "gcc-wrapper", null],
    ["a-1-b-2", "a", "1-b-2"],
    ["trailing-", "trailing-", null],
    ["", "", null],
    ["two\nlines-1", "two\nlines", "1"],
  ];
  for (const [text, name, version] of names) expect(packageVersion(text), text).toEqual({ name, version });
});
