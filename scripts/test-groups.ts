import { isTestFile } from "./source-files.ts";

export interface TestGroup {
  readonly name: string;
  readonly files: readonly string[];
}

/** The first pattern that fits decides; what fits none starts processes and is an end-to-end test. */
const GROUPS: readonly (readonly [name: string, pattern: RegExp])[] = [
  ["tidy", /^test\/tidy\.test\.ts$/],
  ["database", /^(?:core\/db|migrations|test\/(?:db|database|migrations))\//],
  ["handlers", /^(?:handlers|core\/http|test\/handlers)\//],
  ["end to end", /^test\//],
  ["unit", /./],
];

/** Every test file in exactly one group; the quick groups first, empty ones left out. */
export function groupTests(paths: Iterable<string>): TestGroup[] {
  const files = new Map<string, string[]>();
  for (const path of paths) {
    if (!isTestFile(path)) continue;
    const name = GROUPS.find(([, pattern]) => pattern.test(path))?.[0] as string;
    files.set(name, [...(files.get(name) ?? []), path]);
  }
  const order = ["tidy", "unit", "handlers", "database", "end to end"];
  return order.flatMap((name) => (files.has(name) ? [{ name, files: files.get(name) as string[] }] : []));
}
