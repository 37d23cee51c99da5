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
    impure = mk "impure" "date > $out" { __impure = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
  in {
    packages.x86_64-linux = {
      inherit impure;
      above = mk "above" "cat \${impure} > $out" {};
      good = mk "good" "echo > $out" {};
    };
  };
}
`;
const FLOATING =
  'floating = mk "f" "" { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };';
const IMPURE = "it is an impure derivation (`__impure`), which is not built here: what it makes may not be cached";

/** 2.18 and later read what makes a derivation that makes one; `builtins.outputOf` is from then. */
const [major = 0, minor = 0] = nix.ok ? nix.version.split(".").map(Number) : [];
const knowsDynamic = major > 2 || (major === 2 && minor >= 18);

const DYNAMIC_FLAKE = `{
  outputs = { self }: let
    mk = name: script: extra: derivation ({
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    } // extra);
    maker = mk "made.drv" "echo > $out" {
      __contentAddressed = true; outputHashMode = "text"; outputHashAlgo = "sha256";
    };
    dynamic = mk "dynamic" "cat \${builtins.outputOf maker.outPath "out"} > $out" {};
  in {
    packages.x86_64-linux = {
      inherit dynamic;
      above = mk "above-dynamic" "cat \${dynamic} > $out" {};
      beside = mk "beside-dynamic" "echo > $out" {};
    };
  };
}
`;

describe.skipIf(!nix.ok)(`derivations whose outputs nobody knows before the build${reason}`, () => {
  let gradient: Gradient;

  beforeAll(async () => {
    const kinds = knowsDynamic ? " dynamic-derivations" : "";
    const features = `nix-command flakes ca-derivations impure-derivations${kinds}`;
    gradient = await withGradient({}, { "experimental-features": features });
  }, 60_000);

  afterAll(async () => {
    await gradient?.[Symbol.asyncDispose]();
  });

  test("they end with the reason and what to do, in messages and on each build; the others are built", async () => {
    const { api, folder } = gradient;
    const url = await commitFlake(join(folder, "repository"), { "flake.nix": FLAKE }, "A commit");
    const project = await addProject(api, "site", url, "packages.*");

    // Both times: what failed for good is not forgotten, nor why.
    for (const _ of [1, 2]) {
      const id = await api.evaluate(project);
      expect((await api.waitForEnd(id)).status).toBe("Failed");
      const errors: string[] = [];
      for (const { level, message } of await api.messages(id)) if (level === "Error") errors.push(message.slice(33));
      expect(errors).toEqual([`impure.drv: ${IMPURE}`]);
      const shown: Record<string, readonly [string, string | null]> = {};
      for (const build of await api.builds(id)) {
        const { error } = await api.request<{ error: string | null }>("GET", `/builds/${build.id}`);
        shown[shortName(build)] = [build.status, error];
      }
      expect(shown).toMatchObject({
        good: ["Completed", null],
        above: ["DependencyFailed", expect.anything()],
        impure: ["FailedPermanent", IMPURE],
      });
    }
  });

  test("attributes that need a dynamic one fail alone", async ({ skip }) => {
    skip(!knowsDynamic, "this Nix knows no dynamic derivations: the newer ones do");
    const { api, folder } = gradient;
    const url = await commitFlake(join(folder, "dynamic"), { "flake.nix": DYNAMIC_FLAKE }, "A commit");
    const id = await api.evaluate(await addProject(api, "dynamic", url, "packages.*"));
    expect((await api.waitForEnd(id)).status).toBe("Failed");
    const errors = (await api.messages(id)).filter(({ level }) => level === "Error");
    const message = expect.stringMatching(/-dynamic\.drv needs .*: dynamic derivations are not built here$/);
    expect(errors).toMatchObject([
      { message, entry_points: ["packages.x86_64-linux.above"] },
      { message, entry_points: ["packages.x86_64-linux.dynamic"] },
    ]);
    expect((await api.builds(id)).map((build) => [shortName(build), build.status])).toEqual([
      ["beside-dynamic", "Completed"],
    ]);
  });
});

describe.skipIf(!nix.ok)(`with a Nix that does not know such derivations${reason}`, () => {
  test("an attribute says what to turn on for it, or that this does not help", async () => {
    await using gradient = await withGradient({}, { "experimental-features": "nix-command flakes" });
    const { api, folder } = gradient;
    const url = await commitFlake(
      join(folder, "repository"),
      { "flake.nix": FLAKE.replace("inherit impure;", `inherit impure; ${FLOATING}`) },
      "A commit",
    );
    const id = await api.evaluate(await addProject(api, "site", url, "packages.*"));
    expect((await api.waitForEnd(id)).status).toBe("Failed");
    const messages = (await api.messages(id)).filter(({ level }) => level === "Error");
    const advice = Object.fromEntries(
      messages.map(({ entry_points: [attribute = ""], message }) => [attribute, message]),
    );
    const impure =
      /^experimental Nix feature 'impure-derivations' is disabled[\s\S]*\nTurning the feature on does not help: /;
    const ca = /nix-daemon of the worker must have ca-derivations among its experimental-features$/;
    expect(advice).toEqual({
      "packages.x86_64-linux.above": expect.stringMatching(impure),
      "packages.x86_64-linux.floating": expect.stringMatching(ca),
      "packages.x86_64-linux.impure": expect.stringMatching(impure),
    });
  }, 60_000);
});
