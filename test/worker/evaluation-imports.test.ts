import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { streamOf } from "#core/lib/streams.ts";
import { parseStorePath, type StorePath, storePathHash } from "#core/nix/store-path.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import { LocalSubstituter } from "#worker/evaluation/local-substituter.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import { pathWithNix } from "../support/nix-path.ts";
import { quietLogger } from "../support/quiet-logger.ts";
import { evaluateRepository, flakeOf, makeRepository, type TestRepository } from "./evaluation-setup.ts";

const run = promisify(execFile);
const nix = nixAvailable();

/** What is imported differs from build to build. */
const FLAKE = flakeOf(`let
  made = mk "made" "date +%N > $out" { PATH = "/usr/bin:/bin"; };
  text = builtins.head (builtins.match "(.*)\\n" (builtins.readFile made));
in { packages.\${system}.imports = mk "n\${text}" "" {}; }`);

describe.skipIf(!nix.ok)("imports from derivations", () => {
  let elsewhere: NixDaemon;
  let repository: TestRepository;
  const substituter = new LocalSubstituter(quietLogger);
  beforeAll(async () => {
    elsewhere = await withNixDaemon();
    repository = await makeRepository(elsewhere, { "flake.nix": FLAKE });
  });
  afterAll(async () => {
    await substituter[Symbol.asyncDispose]();
    await elsewhere?.[Symbol.asyncDispose]();
  });

  async function importIn(daemon: NixDaemon, environment: { readonly substituterUrl?: string | null } = {}) {
    const record = await evaluateRepository(daemon, repository, {
      job: { wildcard: "packages.*.*" },
      environment: { allowImportFromDerivation: true, ...environment },
    });
    expect([record.outcome, record.errors]).toEqual([{ outcome: "completed" }, {}]);
    const [made] = record.sources.filter((path) => path.endsWith("-made"));
    return { name: record.entryPoints["packages/x86_64-linux/imports"]?.slice(44), made };
  }

  /** A path of that store, as the server would tell of it. */
  async function infoOf(path: StorePath): Promise<PathInfoField> {
    const query = (what: string) => nixOutput(["nix-store", "--query", what, path], elsewhere.env);
    const nar_hash = await nixOutput(["nix-hash", "--type", "sha256", `${elsewhere.root}${path}`], elsewhere.env);
    const nar_size = Number(await query("--size"));
    return { path, nar_hash, nar_size, references: [], deriver: null, ca: null };
  }

  test("what was built to be imported is kept for the others, who take it instead of building it", async () => {
    const first = await importIn(elsewhere);
    const path = parseStorePath(first.made ?? "");
    if (path === null) throw new Error("the imported path was not given on");
    const info = await infoOf(path);
    const asked: string[] = [];
    using opened = await substituter.open("acme", {
      find: async (hash) => {
        asked.push(hash);
        return hash === storePathHash(path) ? info : null;
      },
      open: async () => {
        const env = { ...elsewhere.env, PATH: pathWithNix() };
        const dumped = await run("nix-store", ["--dump", `${elsewhere.root}${path}`], { env, encoding: "buffer" });
        return streamOf(dumped.stdout);
      },
    });

    await using daemon = await withNixDaemon();
    const second = await importIn(daemon, { substituterUrl: opened.url });
    expect(second.name).toBe(first.name);
    expect(asked).toContain(storePathHash(path));
    expect(await readFile(`${daemon.root}${path}`, "utf8")).toBe(await readFile(`${elsewhere.root}${path}`, "utf8"));
    await using alone = await withNixDaemon();
    expect((await importIn(alone)).name).not.toBe(first.name);
  });

  test("the address of an organization's paths holds a secret, and answers while it evaluates", async () => {
    const opened = await substituter.open("other", { find: async () => null, open: async () => streamOf() });
    const { origin, pathname } = new URL(opened.url);
    const status = async (path: string) => (await fetch(`${origin}${path}`)).status;

    expect(await status(`${pathname}/nix-cache-info`)).toBe(200);
    expect(await status(`${pathname}/${"a".repeat(32)}.narinfo`)).toBe(404);
    expect(await status("/nix-cache-info")).toBe(404);
    expect(await status(`/${"0".repeat(32)}/nix-cache-info`)).toBe(404);
    opened[Symbol.dispose]();
    expect(await status(`${pathname}/nix-cache-info`)).toBe(404);
    using again = await substituter.open("other", { find: async () => null, open: async () => streamOf() });
    expect(again.url).toBe(opened.url);
  });
});
