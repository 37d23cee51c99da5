import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { shortName } from "./builds.ts";
import { commitFlake } from "./flake.ts";
import { addProject, type Gradient, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

const FLAKE = `{
  outputs = { self }: let
    mk = name: script: extra: derivation ({
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    } // extra);
    floating = mk "floating" "echo > $out" {
      __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
    };
    deferred = mk "deferred" "cat \${floating} > $out" {};
  in {
    packages.x86_64-linux = {
      inherit deferred;
      above = mk "above" "cat \${deferred} > $out" {};
      impure = mk "impure" "date > $out" { __impure = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
      good = mk "good" "echo > $out" {};
    };
  };
}
`;
const ADVICE = "leave out `__contentAddressed = true`, there or in nixpkgs' `contentAddressedByDefault`";
const FLOATING = `it is a floating content-addressed derivation, which is not built here: ${ADVICE}`;
const DEFERRED = `it needs a floating content-addressed derivation, which is not built here: ${ADVICE}`;
const IMPURE = "it is an impure derivation (`__impure`), which is not built here: what it makes may not be cached";

describe.skipIf(!nix.ok)(`derivations whose outputs nobody knows before the build${reason}`, () => {
  let gradient: Gradient;

  beforeAll(async () => {
    const features = "nix-command flakes ca-derivations impure-derivations";
    gradient = await withGradient({}, { "experimental-features": features });
  }, 60_000);

  afterAll(async () => {
    await gradient?.[Symbol.asyncDispose]();
  });

  test("they end with the reason and what to do, in the evaluation and on each build; the others are built", async () => {
    const { api, folder } = gradient;
    const url = await commitFlake(join(folder, "repository"), { "flake.nix": FLAKE }, "A commit");
    const project = await addProject(api, "site", url, "packages.*");

    // Both times: what failed for good is not forgotten, nor why.
    for (const _ of [1, 2]) {
      const id = await api.evaluate(project);
      expect((await api.waitForEnd(id)).status).toBe("Failed");
      const errors: string[] = [];
      for (const { level, message } of await api.messages(id)) if (level === "Error") errors.push(message.slice(33));
      expect(errors.sort()).toEqual([
        `above.drv: ${DEFERRED}`,
        `deferred.drv: ${DEFERRED}`,
        `floating.drv: ${FLOATING}`,
        `impure.drv: ${IMPURE}`,
      ]);
      const shown: Record<string, readonly [string, string | null]> = {};
      for (const build of await api.builds(id)) {
        const { error } = await api.request<{ error: string | null }>("GET", `/builds/${build.id}`);
        shown[shortName(build)] = [build.status, error];
      }
      expect(shown).toMatchObject({
        good: ["Completed", null],
        floating: ["FailedPermanent", FLOATING],
        deferred: [expect.stringMatching(/Failed/), DEFERRED],
        above: [expect.stringMatching(/Failed/), DEFERRED],
        impure: ["FailedPermanent", IMPURE],
      });
    }
  });
});
