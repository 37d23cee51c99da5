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

/** About dying processes, a command, options, refusals, several servers and workers, upstreams, storage, strangers. */
const NOT_ABOUT_NIX: readonly string[] = [
  "runtime/.+",
  "worker/(?:agent|federation/.+|session/.+)",
  "test/quickstart",
  "test/options/.+",
  "test/nixos/proxies-real",
  "test/hostile/[a-z]+",
  "test/cloudflare/nix",
  "test/deploy/(?:failures|holds|kills|order|watch)",
  "test/cache/(?:behind-nginx|elsewhere|push-nix|repair-nix|upstreams|upstream-relay)",
  "test/e2e/(?:bad-input[a-z-]*|build-requests|dialled-worker|early-builds|faults|federation|polled-push)",
  "test/e2e/(?:scale-[a-z]+|separate-workers|shared-worker|storage-s3|two-servers|upstreams)",
];

export const NIX_TESTS: TestGroup = {
  support: "test/support/nix.ts",
  except: new RegExp(`^(?:${NOT_ABOUT_NIX.join("|")})\\.test\\.ts$`),
};

/** About sockets, sessions, processes, options, storage, Nix, strangers: their statements are those of other tests. */
const NOT_ABOUT_SQL: readonly string[] = [
  "runtime/node/hub/.+",
  "test/(?:cloudflare|e2e|hostile|options)/.+",
  "test/runtime/service-manager",
  "test/contract/(?:access|client|fuzz|registry|served|validators)",
  "test/cache/(?:[a-z-]*nix|behind-nginx|elsewhere|push-crash|s3-faults|surface|upstream[a-z-]*)",
];

export const DATABASE_TESTS: TestGroup = {
  support: "test/support/database.ts",
  except: new RegExp(`^(?:${NOT_ABOUT_SQL.join("|")})\\.test\\.ts$`),
};

/** The tests of a group: all whose imports lead to its support, in the order of the files. */
export function testsOf({ support, except }: TestGroup, files: SourceFiles): string[] {
  const importers = new Map<string, string[]>();
  for (const [path, text] of files) {
    for (const { specifier } of findImports(text)) {
      const target = resolveImport(path, specifier);
      if (target !== null) importers.set(target, [...(importers.get(target) ?? []), path]);
    }
  }
  const reach = new Set([support]);
  // A set goes on with what is added to it on the way.
  for (const path of reach) for (const importer of importers.get(path) ?? []) reach.add(importer);
  return [...files.keys()].filter((path) => isTestFile(path) && reach.has(path) && !except.test(path));
}
