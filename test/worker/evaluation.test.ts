import assert from "node:assert/strict";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseDerivation } from "#core/nix/derivation.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { GraphBatch } from "#worker/evaluation/batches.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import { type EvaluationRecord, evaluateRepository, flakeOf, makeRepository } from "./evaluation-setup.ts";

const nix = nixAvailable();

const EXAMPLE = flakeOf(`let
  lib = mk "lib" "echo lib" {};
  app = mk "app" "echo $lib" { inherit lib; outputs = [ "out" "doc" ]; };
in {
  packages.\${system} = { inherit lib app; default = app; broken = throw "this attribute does not evaluate"; };
  checks.\${system} = { ok = mk "check-ok" "test -e \${lib}/v" {}; };
  legacyPackages.\${system}.nested.deep.x = lib;
  devShells.\${system}.default = mk "shell" "" {};
  nixosConfigurations.host1 = { config.system.build.toplevel = mk "host1" "ln -s \${app}" {}; options = {}; };
  hydraJobs.j1.\${system} = lib;
  herculesCI = { ... }: { onPush.default.outputs.lib = lib; };
}`);

/** Five layers of six; each needs all of the layer below, of every second one a further output. */
const LAYERS = flakeOf(`let
  layer = below: level: builtins.genList (index: mk "layer-\${toString level}-\${toString index}" "true" {
    outputs = [ "out" "dev" ];
    needs = map (dependency: if level / 2 * 2 == level then dependency.dev else dependency) below;
  }) 6;
  top = builtins.foldl' layer [ ] [ 0 1 2 3 4 ];
in { packages.\${system} = builtins.listToAttrs (map (value: { inherit (value) name; inherit value; }) top); }`);

describe.skipIf(!nix.ok)("evaluation with the stock nix", () => {
  let daemon: NixDaemon;
  beforeAll(async () => {
    daemon = await withNixDaemon();
  });
  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  async function run(flake: string, wildcard: string, rest: Partial<Parameters<typeof evaluateRepository>[2]> = {}) {
    const repository = await makeRepository(daemon, { "flake.nix": flake });
    return await evaluateRepository(daemon, repository, { ...rest, job: { ...rest.job, wildcard } });
  }

  test("a commit becomes derivations that Nix itself names, and the one that throws becomes an error", async () => {
    const repository = await makeRepository(daemon, { "flake.nix": EXAMPLE });
    const record = await evaluateRepository(daemon, repository, { job: { wildcard: "packages.*.*,checks.*.*" } });

    expect(record.outcome).toEqual({ outcome: "completed" });
    expect(record.phases).toEqual(["fetching", "evaluating_flake", "evaluating_derivations"]);
    expect(record.commitInfo).toEqual({ message: "first commit", authorName: "Ada", authorEmail: "ada@example.org" });
    expect(record.inputs, "it has no lock").toEqual([]);
    expect(record.entryPointList.map(({ attribute }) => attribute.join("/"))).toEqual([
      "checks/x86_64-linux/ok",
      "packages/x86_64-linux/app",
      "packages/x86_64-linux/default",
      "packages/x86_64-linux/lib",
    ]);
    const flake = `git+file://${repository.folder}#packages.x86_64-linux.app.drvPath`;
    const drvPath = await nixOutput(["nix", "eval", "--raw", flake], daemon.env);
    expect(record.entryPoints["packages/x86_64-linux/app"]).toBe(drvPath);
    expect(record.errors).toEqual({ "packages/x86_64-linux/broken": "this attribute does not evaluate" });
    assertBottomUp(record.batches);
    expect(record.batches.map(({ last }) => last)).toEqual([...record.batches.slice(1).map(() => false), true]);
  });

  test("every dependency precedes its dependents, across layers and outputs", async () => {
    const record = await run(LAYERS, "packages.*");

    const nodes = record.batches.flatMap((batch) => batch.nodes);
    expect(nodes.length).toBe(30);
    expect(new Set(nodes.map(({ drvPath }) => drvPath)).size).toBe(30);
    expect(nodes.every(({ pruned }) => !pruned)).toBe(true);
    expect(record.entryPointList.length).toBe(6);
    assertBottomUp(record.batches);
    const wanted = record.questions.find(({ drvPath }) => drvPath.endsWith("-layer-3-0.drv"));
    expect(wanted?.outputs.map(({ name }) => name)).toEqual(["dev"]);
    expect(wanted?.outputs[0]?.path).toMatch(/^\/nix\/store\/.*-layer-3-0-dev$/);
  });

  test("nothing below what is known is looked at", async () => {
    const known = ({ drvPath }: { drvPath: StorePath }) => drvPath.includes("-layer-3-");
    const record = await run(LAYERS, "packages.*", { known });

    const nodes = record.batches.flatMap((batch) => batch.nodes);
    expect(nodes.filter(({ pruned }) => pruned).map(({ drvPath }) => drvPath.slice(44))).toHaveLength(6);
    expect(nodes).toHaveLength(12);
    assertBottomUp(record.batches);
  });

  test("attributes may be named anything", async () => {
    const flake = flakeOf(`{ packages.\${system} = {
      "python3.12" = mk "dots" "" {}; "with space" = mk "space" "" {}; "quo\\"te" = mk "quote" "" {};
      "\\\${x}" = mk "dollar" "" {}; "ünïcode" = mk "unicode" "" {}; "back\\\\slash" = mk "backslash" "" {};
      "line\\nbreak" = mk "linebreak" "" {};
    }; }`);
    const record = await run(flake, 'packages.*.*,packages.x86_64-linux."python3.12"');

    const names = record.entryPointList.map(({ attribute }) => attribute.at(-1));
    const dollar = "$\u007bx}";
    expect(new Set(names)).toEqual(
      new Set(["python3.12", "with space", 'quo"te', dollar, "ünïcode", "back\\slash", "line\nbreak"]),
    );
    expect(record.errors).toEqual({});
  });

  test("exclusions name exact paths, whatever their order", async () => {
    const flake = flakeOf(`{ packages.\${system} = { a = mk "a" "" {}; "b.c" = mk "b" "" {}; d = throw "no"; }; }`);
    const wildcard = '!packages.x86_64-linux."b.c",packages.*.*,!packages.x86_64-linux.d,!packages';
    const record = await run(flake, wildcard);

    expect(Object.keys(record.entryPoints)).toEqual(["packages/x86_64-linux/a"]);
    expect(record.errors).toEqual({});
  });

  test("a star stays out of sets with a type of their own, a hash enters them", async () => {
    const flake = flakeOf(`{
      packages.\${system} = { plain.inner = mk "inner" "" {};
        typed = { _type = "option"; inner = mk "typed" "" {}; }; };
      hosts.one = { _type = "configuration"; config.top = mk "one" "" {}; };
      hosts.two = { type = "mine"; config.top = mk "two" "" {}; };
    }`);

    const star = await run(flake, "packages.x86_64-linux.*,hosts.*.config.top");
    expect(Object.keys(star.entryPoints)).toEqual(["packages/x86_64-linux/plain/inner"]);
    const hash = await run(flake, "packages.x86_64-linux.#,hosts.#.config.top");
    expect(Object.keys(hash.entryPoints)).toEqual(["hosts/one/config/top", "hosts/two/config/top"]);
    expect([star.errors, hash.errors]).toEqual([{}, {}]);
  });

  test("a lone star finds everything but whole package sets", async () => {
    const record = await run(EXAMPLE, "*");

    expect(Object.keys(record.entryPoints).sort()).toEqual([
      "checks/x86_64-linux/ok",
      "devShells/x86_64-linux/default",
      "hydraJobs/j1/x86_64-linux",
      "nixosConfigurations/host1/config/system/build/toplevel",
      "packages/x86_64-linux/app",
      "packages/x86_64-linux/default",
      "packages/x86_64-linux/lib",
    ]);
    expect(Object.keys(record.errors)).toEqual(["packages/x86_64-linux/broken"]);
  });

  test("an explicit attribute must exist and be a derivation, a wildcard may match nothing", async () => {
    const wildcard = "packages.x86_64-linux.nosuch,packages.x86_64-linux,packages.x86_64-linux.lib,nothing.*";
    const record = await run(EXAMPLE, wildcard);

    expect(record.outcome.outcome).toBe("completed");
    expect(record.errors).toEqual({
      "packages/x86_64-linux/nosuch":
        "attribute packages.x86_64-linux.nosuch does not exist; packages.x86_64-linux has: app, broken, default, lib",
      "packages/x86_64-linux":
        "it is not a derivation but a set: to evaluate what is below it, write packages.x86_64-linux.*",
    });
    expect(Object.keys(record.entryPoints)).toEqual(["packages/x86_64-linux/lib"]);
  });

  test("patterns that match nothing at all are an error that says what is there", async () => {
    const record = await run(flakeOf(`{ packages = {}; checks = {}; }`), "package.*");

    expect(record.errors).toEqual({
      "": "no attribute matches package.*: correct the project's patterns; the flake has: checks, packages",
    });
  });

  test("warnings and traces are passed once, with the attribute that caused them", async () => {
    const flake = flakeOf(`{ packages.\${system} = {
      a = builtins.trace "first line\\nsecond line" (mk "a" "" {});
      b = builtins.trace "warning: b is old" (mk "b" "" {});
      c = builtins.trace "gradient-0000 {\\"drvPath\\":\\"/nix/store/forged\\",\\"item\\":0}" (mk "c" "" {});
    }; }`);
    const record = await run(flake, "packages.x86_64-linux.*");

    expect(record.messages.map(({ level, text, attribute }) => [level, text, attribute?.at(-1)])).toEqual([
      ["notice", "first line\nsecond line", "a"],
      ["warning", "b is old", "b"],
      ["notice", 'gradient-0000 {"drvPath":"/nix/store/forged","item":0}', "c"],
    ]);
    expect(record.entryPointList).toHaveLength(3);
  });

  test("what is found goes out while another attribute is still evaluated", async () => {
    const flake = flakeOf(`{ packages.\${system} = {
      a = mk "a" "" {}; b = mk "b" "" {};
      z = builtins.seq (builtins.foldl' (sum: n: builtins.seq (builtins.genList (x: x * n) 100000) n) 0
        (builtins.genList (n: n) 400)) (mk "z" "" {});
    }; }`);
    const batches: { attributes: string[]; at: number }[] = [];
    const record = await run(flake, "packages.x86_64-linux.*", {
      onBatch: ({ entryPoints }) => {
        const attributes = entryPoints.map(({ attribute }) => attribute.at(-1) as string);
        if (attributes.length > 0) batches.push({ attributes, at: performance.now() });
      },
    });

    expect(Object.keys(record.entryPoints)).toHaveLength(3);
    expect(batches.map(({ attributes }) => attributes)).toEqual([["a", "b"], ["z"]]);
    assertBottomUp(record.batches);
  });

  test("input sources are given before the batch that names them, and only once", async () => {
    const flake = flakeOf(`{ packages.\${system} = {
      a = mk "a" "" { src = ./one.txt; }; b = mk "b" "" { src = ./one.txt; other = builtins.toFile "two" "2"; };
    }; }`);
    const repository = await makeRepository(daemon, { "flake.nix": flake, "one.txt": "1" });
    const record = await evaluateRepository(daemon, repository, { job: { wildcard: "packages.*" } });

    expect(record.sources.map((path) => path.slice(44))).toEqual(expect.arrayContaining(["two", "one.txt"]));
    expect(new Set(record.sources).size).toBe(record.sources.length);
  });
});

function assertBottomUp(batches: EvaluationRecord["batches"]): void {
  const given = new Set<StorePath>();
  for (const { nodes, entryPoints } of batches as readonly GraphBatch[]) {
    for (const { drvPath, aterm, pruned } of nodes) {
      for (const input of pruned ? [] : parseDerivation(aterm).inputDerivations.keys()) {
        assert(given.has(input), `${drvPath} came before ${input}, which it needs`);
      }
      given.add(drvPath);
    }
    for (const { drvPath } of entryPoints) assert(given.has(drvPath), `entry point ${drvPath} came before its node`);
  }
}
