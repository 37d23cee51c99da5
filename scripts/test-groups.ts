import { findImports } from "./imports.ts";
import { resolveImport } from "./layer-rules.ts";
import { isTestFile, type SourceFiles } from "./source-files.ts";

/** Tests that depend on something of which several versions must work. */
export interface TestGroup {
  /** The file of test/support that gives it to them. */
  readonly support: string;
  /** Tests that the newest version alone would tell nothing more of, or that take too long to run for each. */
  readonly except: RegExp;
}

/** About dying processes, a command, refusals, several servers and workers, upstreams, storage and strangers. */
const NOT_ABOUT_NIX: readonly string[] = [
  "runtime/.+",
  "worker/(?:agent|federation/.+|session/.+)",
  "test/quickstart",
  "test/hostile/[a-z]+",
  "test/cloudflare/nix",
  "test/cache/(?:behind-nginx|elsewhere|repair-nix|upstreams|upstream-relay)",
  "test/e2e/(?:bad-input[a-z-]*|build-requests|dialled-worker|early-builds|faults|federation)",
  "test/e2e/(?:scale-[a-z]+|separate-workers|shared-worker|storage-s3|two-servers|upstreams)",
];

/** About Nix, other caches and the edge; about the API's document, whose routes the walk and the access table ask. */
const NOT_ABOUT_THE_DATABASE: readonly string[] = [
  "cache/(?:[a-z-]*nix|behind-nginx|push-crash|upstream[a-z-]*|elsewhere)",
  "cloudflare/[a-z]+",
  "contract/(?:client|fuzz|registry|served|validators)",
];

export const NIX_TESTS: TestGroup = {
  support: "test/support/nix.ts",
  except: new RegExp(`^(?:${NOT_ABOUT_NIX.join("|")})\\.test\\.ts$`),
};

export const DATABASE_TESTS: TestGroup = {
  support: "test/support/database.ts",
  except: new RegExp(`^test/(?:${NOT_ABOUT_THE_DATABASE.join("|")})\\.test\\.ts$`),
};

/** The tests of a group: all whose imports lead to its support, in the order of the files. */
export function testsOf({ support, except }: TestGroup, files: SourceFiles): string[] {
  const reach = new Set([support]);
  for (let before = 0; before < reach.size; ) {
    before = reach.size;
    for (const [path, text] of files) {
      const targets = findImports(text).map(({ specifier }) => resolveImport(path, specifier));
      if (targets.some((target) => target !== null && reach.has(target))) reach.add(path);
    }
  }
  return [...files.keys()].filter((path) => isTestFile(path) && reach.has(path) && !except.test(path));
}
