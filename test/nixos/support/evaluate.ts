import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathWithNix } from "#test/support/nix-path.ts";

const SUPPORT = import.meta.dirname;
const ROOT = join(SUPPORT, "../../..");
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/** The part of a unit that our modules set. */
export interface Service {
  readonly description: string | null;
  readonly wantedBy: readonly string[];
  readonly requiredBy: readonly string[];
  readonly wants: readonly string[];
  readonly after: readonly string[];
  readonly before: readonly string[];
  readonly path: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly serviceConfig: Readonly<Record<string, unknown>>;
  readonly script: string;
  readonly restartIfChanged: boolean;
  readonly unitConfig: Readonly<Record<string, unknown>>;
}

export interface Location {
  readonly proxyPass: string | null;
  readonly root: string | null;
  readonly alias: string | null;
  readonly tryFiles: string | null;
  readonly return: string | null;
  readonly extraConfig: string;
}

export interface VirtualHost {
  readonly http2: boolean;
  readonly enableACME: boolean;
  readonly forceSSL: boolean;
  readonly extraConfig: string;
  readonly locations: Readonly<Record<string, Location>>;
}

/** What a system comes to; where assertions fail, nothing but those. */
export interface System {
  /** Of assertions that do not hold. */
  readonly failed: readonly string[];
  readonly warnings: readonly string[];
  readonly services: Readonly<Record<string, Service>>;
  readonly timers: Readonly<Record<string, { readonly timerConfig: Readonly<Record<string, unknown>> }>>;
  /** What is installed for everybody: scripts by their names. */
  readonly commands: Readonly<Record<string, string>>;
  /** Scripts that the system is not built without. */
  readonly checks: readonly string[];
  readonly tmpfiles: readonly string[];
  readonly users: Readonly<Record<string, { readonly group: string | null; readonly isSystemUser: boolean }>>;
  readonly groups: Readonly<Record<string, { readonly members: readonly string[] }>>;
  readonly nginx: {
    readonly enable: boolean;
    readonly commonHttpConfig: string;
    readonly appendHttpConfig: string;
    readonly upstreams: Readonly<Record<string, { readonly servers: object; readonly extraConfig: string }>>;
    readonly virtualHosts: Readonly<Record<string, VirtualHost>>;
  };
  readonly caddy: {
    readonly enable: boolean;
    readonly virtualHosts: Readonly<
      Record<string, { readonly useACMEHost: string | null; readonly extraConfig: string }>
    >;
  };
  readonly postgresql: {
    readonly enable: boolean;
    readonly ensureDatabases: readonly string[];
    readonly ensureUsers: readonly unknown[];
    readonly settings: Readonly<Record<string, unknown>>;
  };
  readonly nix: Readonly<Record<string, unknown>>;
  /** How the state file is made, or what it holds where nothing checks it. */
  readonly stateFile: string | null;
  readonly stateCredentials: Readonly<Record<string, string>> | null;
  readonly state: string;
  /** Of every option below `services.gradient` that has one. */
  readonly defaults: Readonly<Record<string, unknown>>;
  /** The same of `system.gradient-deploy`. */
  readonly deployDefaults: Readonly<Record<string, unknown>>;
  /** Options without a type, a description or an example. */
  readonly undocumented: readonly string[];
}

/** The folder whose `lib` takes the place of our stand-in: nixpkgs, or its `lib` alone. */
export const NIXPKGS: string | null = process.env.NIXPKGS || null;

export function canEvaluate(): boolean {
  return spawnSync("nix-instantiate", ["--version"], { env: environment() }).status === 0;
}

/**
 * What each of these systems comes to: the texts of modules, by names. Null for one whose evaluation throws. All of
 * them take one run of Nix, with a store that nothing is written to.
 */
export function evaluateSystems<Name extends string>(
  systems: Readonly<Record<Name, string>>,
): Record<Name, System | null> {
  const library = NIXPKGS === null ? join(SUPPORT, "stand-in") : join(NIXPKGS, "lib");
  if (!existsSync(library)) throw new Error(`${library} is not there: NIXPKGS must name a folder with a folder lib`);
  const folder = mkdtempSync(join(tmpdir(), "gradient-modules-"));
  try {
    const entries = Object.entries<string>(systems).map(([name, text]) => `${JSON.stringify(name)} = ${text};`);
    writeFileSync(join(folder, "systems.nix"), `{\n${entries.join("\n")}\n}\n`);
    const expression = `import ${join(SUPPORT, "evaluate.nix")} {
      lib = import ${library};
      flake = import ${join(ROOT, "flake.nix")};
      systems = import ${join(folder, "systems.nix")};
    }`;
    const args = ["--eval", "--strict", "--json", "--store", "dummy://", "--expr", expression];
    const { status, stdout, stderr } = spawnSync("nix-instantiate", args, {
      encoding: "utf8",
      env: environment(),
      maxBuffer: OUTPUT_BYTES_MAX,
    });
    if (status !== 0) throw new Error(`the modules cannot be evaluated: ${stderr.slice(-4_000)}`);
    return JSON.parse(stdout) as Record<Name, System | null>;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: pathWithNix() };
}
