import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable, nixOutput } from "../support/nix.ts";
import { outputOf } from "./builds.ts";
import { commitFlake } from "./flake.ts";
import { addProject, type Gradient, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const LINKS = 100;

/** Packages by name: attributes of an expression in which `mk NAME SCRIPT` is a derivation. */
function flakeOf(packages: Readonly<Record<string, string>>): string {
  const attributes = Object.entries(packages).map(([name, expression]) => `${name} = ${expression};`);
  return `{ outputs = { self }: let
    system = "x86_64-linux";
    mk = name: script: derivation {
      inherit name system; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    };
    chain = n: if n == 0 then mk "link-0" "echo 0 > $out"
      else mk "link-\${toString n}" "read before < \${chain (n - 1)}; echo $((before + 1)) > $out";
  in { packages.\${system} = { ${attributes.join("\n")} }; }; }
  `;
}

describe.skipIf(!nix.ok)(`large and long builds (${nix.ok ? nix.version : nix.reason})`, () => {
  let gradient: Gradient;
  let url: string;
  let project: string;

  beforeAll(async () => {
    gradient = await withGradient();
    url = await commitFlake(
      join(gradient.folder, "site"),
      { "flake.nix": flakeOf({ first: 'mk "first" "echo > $out"' }) },
      "One",
    );
    project = await addProject(gradient.api, "site", url, "packages.*");
    await evaluate({ warm: 'mk "warm" "echo > $out"' });
  }, 60_000);

  afterAll(() => gradient?.[Symbol.asyncDispose]());

  async function evaluate(packages: Readonly<Record<string, string>>) {
    await commitFlake(join(gradient.folder, "site"), { "flake.nix": flakeOf(packages) }, "Another");
    const id = await gradient.api.evaluate(project);
    const { status } = await gradient.api.waitForEnd(id, 100_000);
    return { id, status };
  }

  test(`a chain of ${LINKS} builds, each of which waits for the one before, is built link by link`, async () => {
    const { id, status } = await evaluate({ chain: `chain ${LINKS - 1}` });
    expect(status).toBe("Completed");
    const builds = (await gradient.api.builds(id)).filter(({ name }) => name.includes("-link-"));
    expect(builds.filter((build) => build.status === "Completed").length).toBe(LINKS);
    const output = await outputOf(gradient, id, `link-${LINKS - 1}`);
    const { daemon } = gradient;
    expect(await nixOutput(["nix-store", "--query", "--hash", output], daemon.env)).toMatch(/^sha256:/);
  }, 120_000);
});
