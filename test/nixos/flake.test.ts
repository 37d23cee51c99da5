import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { pathWithNix } from "#test/support/nix-path.ts";
import { canEvaluate } from "./support/evaluate.ts";

const ROOT = join(import.meta.dirname, "../..");
// Whether the machine has users for builds is no matter of these files.
const env = { ...process.env, PATH: pathWithNix(), NIX_CONFIG: "build-users-group =" };

function nixFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".nix"))
    .map((name) => join(folder, name));
}

/** The flake's outputs where nixpkgs is nothing but names. */
const OUTPUTS = `
  let
    lib = import ${join(ROOT, "test/nixos/support/stand-in")};
    named = name: { inherit name; };
    packages = {
      callPackage = file: _: named (baseNameOf file);
      mkShellNoCC = shell: named "shell";
      testers.runNixOSTest = test: named test.name;
      runCommand = name: _: _: named name;
      nixfmt = named "nixfmt";
    };
    extend = overlay: let final = packages // overlay final packages; in final;
    nixpkgs = {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (_: { inherit extend; });
    };
    outputs = (import ${join(ROOT, "flake.nix")}).outputs { self = outputs; inherit nixpkgs; };
    names = lib.mapAttrs (_: lib.mapAttrs (_: one: one.name));
  in {
    packages = names outputs.packages;
    checks = names outputs.checks;
    devShells = names outputs.devShells;
    modules = lib.mapAttrs (_: toString) outputs.nixosModules;
    overlays = builtins.attrNames outputs.overlays;
  }`;

describe.skipIf(!canEvaluate())("the flake", () => {
  test("it has packages, modules, an overlay, a shell and checks for both systems", () => {
    const args = ["--eval", "--strict", "--json", "--store", "dummy://", "--expr", OUTPUTS];
    const { stdout, stderr } = spawnSync("nix-instantiate", args, { encoding: "utf8", env });
    expect(stderr).toBe("");
    const outputs = JSON.parse(stdout) as Record<string, Record<string, Record<string, string>>>;
    for (const system of ["x86_64-linux", "aarch64-linux"]) {
      expect(outputs.packages?.[system]).toEqual({
        default: "server.nix",
        "gradient-server": "server.nix",
        "gradient-worker": "worker.nix",
        "gradient-deploy": "deploy.nix",
        "gradient-frontend": "frontend.nix",
      });
      expect(outputs.checks?.[system]).toMatchObject({
        "module-server-and-worker": "evaluated-server-and-worker",
        "module-deploy": "evaluated-deploy",
        "vm-one-machine": "gradient-one-machine",
        "vm-deploy": "gradient-deploy",
      });
      expect(Object.keys(outputs.devShells?.[system] ?? {})).toEqual(["default"]);
    }
    expect(outputs.modules).toEqual({
      default: join(ROOT, "nixos/modules/server"),
      "gradient-worker": join(ROOT, "nixos/modules/worker"),
      deploy: join(ROOT, "nixos/modules/deploy"),
    });
    expect(outputs.overlays).toEqual(["default"]);
  });

  test("each file of Nix can be read", () => {
    const files = [join(ROOT, "flake.nix"), ...nixFiles(join(ROOT, "nixos")), ...nixFiles(import.meta.dirname)];
    expect(files.length).toBeGreaterThan(30);
    const { status, stderr } = spawnSync("nix-instantiate", ["--parse", ...files], {
      stdio: ["ignore", "ignore", "pipe"],
      env,
    });
    expect(stderr.toString()).toBe("");
    expect(status).toBe(0);
  });

  test("a file of Nix has at most 300 lines of at most 120 columns", () => {
    const files = [join(ROOT, "flake.nix"), ...nixFiles(join(ROOT, "nixos")), ...nixFiles(import.meta.dirname)];
    for (const file of files) {
      const lines = readFileSync(file, "utf8").trimEnd().split("\n");
      expect.soft({ file, tooLong: lines.length > 300 }).toEqual({ file, tooLong: false });
      expect.soft({ file, wide: lines.filter((line) => line.length > 120) }).toEqual({ file, wide: [] });
    }
  });
});
