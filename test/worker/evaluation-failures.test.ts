import { access, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EvaluatorPool } from "#worker/evaluation/evaluator-pool.ts";
import { type NixDaemon, nixAvailable, withNixDaemon } from "../support/nix.ts";
import {
  commitFiles,
  type EvaluationRequest,
  evaluateRepository,
  flakeOf,
  git,
  makeRepository,
} from "./evaluation-setup.ts";

const nix = nixAvailable();
const PACKAGES = "packages.x86_64-linux";

describe.skipIf(!nix.ok)("evaluation of what is broken", () => {
  let daemon: NixDaemon;
  beforeAll(async () => {
    daemon = await withNixDaemon();
  });
  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  async function run(flake: string, rest: Partial<EvaluationRequest> = {}) {
    const repository = await makeRepository(daemon, { "flake.nix": flake });
    return await evaluateRepository(daemon, repository, { ...rest, job: { wildcard: `${PACKAGES}.*`, ...rest.job } });
  }

  test("whatever way an attribute dies, it alone gets the error and the others are found", async () => {
    const flake = flakeOf(`{ ${PACKAGES} = {
      a = mk "a" "" {}; aborts = abort "for a reason"; b = mk "b" "" {};
      recurses = let x = x; in x; missing = { }.nothing; adds = 1 + "text"; c = mk "c" "" {};
      deep = let f = n: 1 + f (n + 1); in f 0; asserts = assert false; mk "x" "" {}; wrongName = mk "sp ace" "" {};
      inside = mk "y" "" { value = throw "from within"; }; number = 7;
      forged = { type = "derivation"; drvPath = "/etc"; };
      z = mk "z" "" {};
    }; }`);
    const record = await run(flake);

    expect(record.outcome).toEqual({ outcome: "completed" });
    const prefix = "packages/x86_64-linux/";
    expect(Object.keys(record.entryPoints)).toEqual(["a", "b", "c", "z"].map((name) => prefix + name));
    expect(record.errors[`${prefix}aborts`]).toBe(
      "evaluation aborted with the following error message: 'for a reason'",
    );
    expect(record.errors[`${prefix}recurses`]).toMatch(/^infinite recursion encountered\nat flake.nix:\d+:\d+$/);
    expect(record.errors[`${prefix}missing`]).toMatch(/^attribute 'nothing' missing\nat flake.nix:\d+:\d+$/);
    expect(record.errors[`${prefix}adds`]).toMatch(/^cannot add a string to an integer/);
    expect(record.errors[`${prefix}deep`]).toMatch(/^stack overflow/);
    expect(record.errors[`${prefix}asserts`]).toMatch(/^assertion .*failed/);
    expect(record.errors[`${prefix}wrongName`]).toMatch(/sp ace/);
    expect(record.errors[`${prefix}inside`]).toMatch(/^from within/);
    expect(record.errors[`${prefix}forged`]).toMatch(/is no derivation in the store/);
    expect(Object.keys(record.errors)).toHaveLength(9);
  });

  test("a set that cannot be looked into is one error, and the walk goes on behind it", async () => {
    const flake = flakeOf(`{
      checks = { a.one = mk "one" "" {}; b = abort "no b"; c = throw "no c"; d.two = mk "two" "" {}; };
      packages.x = mk "three" "" {};
    }`);
    const record = await run(flake, { job: { wildcard: "checks.*.#,checks.*.two.#,packages.#" } });

    expect(Object.keys(record.entryPoints)).toEqual(["checks/a/one", "checks/d/two", "packages/x"]);
    expect(Object.keys(record.errors)).toEqual(["checks/b", "checks/c"]);
  });

  test("an attribute that never ends costs its own time and nothing else", async () => {
    const flake = flakeOf(`{ ${PACKAGES} = {
      a = mk "a" "" {}; z = mk "z" "" {};
      endless = builtins.foldl' (sum: n: builtins.seq (builtins.genList (x: x * n) 1000000) n) 0
        (builtins.genList (n: n) 1000000);
    }; }`);
    const record = await run(flake, { environment: { attributeTimeoutMs: 1_000 } });

    expect(Object.keys(record.entryPoints)).toHaveLength(2);
    expect(record.errors).toEqual({ "packages/x86_64-linux/endless": "it did not evaluate within 1 seconds" });
  });

  test("an attribute that needs too much memory fails alone", async () => {
    const flake = flakeOf(`{ ${PACKAGES} = { a = mk "a" "" {}; z = mk "z" "" {};
      greedy = mk "g" "" {
        value = toString (builtins.length
          (builtins.foldl' (all: n: all ++ [ n all ]) [ ] (builtins.genList (n: n) 100000)));
      };
    }; }`);
    const record = await run(flake, { environment: { evaluatorMemoryBytesMax: 200 * 1024 * 1024 } });

    expect(Object.keys(record.entryPoints)).toHaveLength(2);
    expect(record.errors).toEqual({
      "packages/x86_64-linux/greedy": "its evaluation needs more memory than the worker allows",
    });
  });

  test("of a great many failing attributes each gets its error, and the good ones are found", async () => {
    const flake = flakeOf(`{ ${PACKAGES} = builtins.listToAttrs (builtins.genList (n: {
      name = "p\${toString n}";
      value = if n / 10 * 10 == n then mk "p\${toString n}" "" {} else throw "no \${toString n}";
    }) 200); }`);
    const record = await run(flake);

    expect(Object.keys(record.entryPoints)).toHaveLength(20);
    expect(Object.keys(record.errors)).toHaveLength(180);
    const words = Object.values(record.errors).filter((text) => /^no \d+$/.test(text));
    expect(words.length).toBe(64);
  });

  test("import from derivation is refused attribute by attribute, or done where it is allowed", async () => {
    const flake = flakeOf(`let made = mk "made" "echo imported > $out" {}; in { ${PACKAGES} = {
      plain = mk "plain" "" {}; imports = mk (builtins.head (builtins.match "(.*)\\n" (builtins.readFile made))) "" {};
    }; }`);

    const refused = await run(flake);
    expect(Object.keys(refused.entryPoints)).toEqual(["packages/x86_64-linux/plain"]);
    expect(refused.errors["packages/x86_64-linux/imports"]).toMatch(
      /allow-import-from-derivation.*\n.*build capability/,
    );
    const allowed = await run(flake, { environment: { allowImportFromDerivation: true } });
    expect(allowed.errors).toEqual({});
    expect(allowed.entryPoints["packages/x86_64-linux/imports"]).toMatch(/-imported\.drv$/);
  });

  test("a flake that does not parse, throws or lacks a lock fails as a whole, in Nix's words", async () => {
    const parse = await run("{ outputs = { self }: { packages = ; }; }");
    expect(parse.outcome).toMatchObject({
      outcome: "failed",
      message: expect.stringMatching(/^syntax error.*\nat flake.nix:1/),
    });
    const throws = await run(`{ outputs = { self }: throw "not today"; }`);
    expect(throws.outcome).toEqual({ outcome: "failed", message: "not today" });
    const explicit = await run(`{ outputs = { self }: throw "not today"; }`, { job: { wildcard: "packages.a" } });
    expect(explicit.outcome).toEqual({ outcome: "failed", message: "not today" });
    const unlocked = await run(`{ inputs.other.url = "github:owner/name"; outputs = { self, other }: { }; }`);
    expect(unlocked.outcome).toMatchObject({ message: expect.stringContaining("run `nix flake lock` and commit") });
    expect(unlocked.batches).toEqual([]);
  });

  test("patterns that cannot be read, limits and time are failures that say what to do", async () => {
    const flake = flakeOf(`{ ${PACKAGES} = { a = mk "a" "" { needs = mk "b" "" {}; }; c = mk "c" "" {}; }; }`);

    const pattern = await run(flake, { job: { wildcard: "packages..a" } });
    expect(pattern.outcome).toMatchObject({ message: expect.stringContaining("remove the extra dot") });
    const attributes = await run(flake, { job: { wildcard: `${PACKAGES}.*`, maxAttributes: 1 } });
    expect(attributes.outcome).toMatchObject({ message: expect.stringContaining("more than 1 attributes") });
    const derivations = await run(flake, { job: { wildcard: `${PACKAGES}.*`, maxDerivations: 2 } });
    expect(derivations.outcome).toMatchObject({ message: expect.stringContaining("more than 2 derivations") });
    const endless = flakeOf(
      `builtins.seq
        (builtins.foldl' (a: b: builtins.seq (builtins.genList (x: x) 1000000) b) 0
          (builtins.genList (x: x) 1000000)) { }`,
    );
    const slow = await run(endless, { job: { wildcard: "*", timeoutMs: 1_500 } });
    expect(slow.outcome).toMatchObject({ message: "the evaluation did not finish in the time it was given" });
  });

  test("an aborted evaluation ends at once and leaves no process behind", async () => {
    const abort = new AbortController();
    const flake = flakeOf(
      `let made = mk "made" "sleep 617.3; echo > $out" { PATH = "/usr/bin:/bin"; };
        in { ${PACKAGES}.sleeps = mk (builtins.readFile made) "" {}; }`,
    );
    const evaluators = new EvaluatorPool({ evaluatorsMax: 1, evaluationsPerProcessMax: 0 });
    const environment = { signal: abort.signal, allowImportFromDerivation: true, evaluators };
    const running = run(flake, { environment });
    await until(async () => (await commandLines()).some((line) => line.includes("sleep 617.3")));
    abort.abort();

    expect(await running).toMatchObject({ outcome: { outcome: "failed", message: "the evaluation was aborted" } });
    await evaluators.close();
    const home = join(daemon.folder, "worker", "evaluator-home");
    await until(
      async () => !(await commandLines()).some((line) => line.includes("sleep 617.3") || line.includes(home)),
    );
  });

  test("a missing flake.nix, commit or repository is told apart", async () => {
    const empty = await makeRepository(daemon, { "README.md": "nothing" });
    const job = { wildcard: "*" };

    const noFlake = await evaluateRepository(daemon, empty, { job });
    expect(noFlake.outcome).toMatchObject({ message: expect.stringContaining("has no flake.nix at its top") });
    const noCommit = await evaluateRepository(daemon, { ...empty, commit: "0".repeat(40) }, { job });
    expect(noCommit.outcome).toMatchObject({ message: expect.stringContaining(`has no commit ${"0".repeat(40)}`) });
    const noRepository = await evaluateRepository(daemon, { ...empty, url: `${empty.url}-gone` }, { job });
    expect(noRepository.outcome).toMatchObject({
      message: expect.stringContaining("cannot be fetched: check the URL"),
    });
    const noHash = await evaluateRepository(daemon, { ...empty, commit: "main" }, { job });
    expect(noHash.outcome).toMatchObject({ message: expect.stringContaining("is no full commit hash") });
  });

  test("a commit on no branch is found, and what a crash left in the repository heals", async () => {
    const repository = await makeRepository(daemon, { "flake.nix": flakeOf(`{ packages.a = mk "first" "" {}; }`) });
    const job = { wildcard: "packages.#" };
    const environment = { dataDir: join(daemon.folder, "worker-that-crashed") };
    const first = await evaluateRepository(daemon, repository, { job, environment });
    const commit = await commitFiles(
      repository.folder,
      { "flake.nix": flakeOf(`{ packages.a = mk "second" "" {}; }`) },
      "2",
    );
    await git(repository.folder, "reset", "--quiet", "--hard", "HEAD^");
    const repositories = join(environment.dataDir, "repositories");
    const folders = (await readdir(repositories)).map((name) => join(repositories, name, ".git"));
    expect(folders).toHaveLength(1);
    for (const folder of folders) {
      for (const name of ["config.lock", "shallow.lock", `refs/gradient/${commit}.lock`, "objects/pack/tmp_pack_x"]) {
        await mkdir(dirname(join(folder, name)), { recursive: true });
        await writeFile(join(folder, name), "");
      }
      await writeFile(join(folder, "marker"), "");
    }

    const second = await evaluateRepository(daemon, { ...repository, commit }, { job, environment });
    expect(first.entryPoints["packages/a"]).toMatch(/-first\.drv$/);
    expect(second.entryPoints["packages/a"]).toMatch(/-second\.drv$/);
    for (const folder of folders) {
      await expect(access(join(folder, "marker")), "healed without fetching everything again").resolves.toBeUndefined();
      await expect(access(join(folder, "objects/pack/tmp_pack_x"))).rejects.toThrow("ENOENT");
      await rm(join(folder, "HEAD"));
    }
    const healed = await evaluateRepository(daemon, { ...repository, commit }, { job, environment });
    expect(healed.entryPoints).toEqual(second.entryPoints);
    // What a power cut can leave of a reference.
    for (const folder of folders) await writeFile(join(folder, "refs", "gradient", commit), "");
    const again = await evaluateRepository(daemon, { ...repository, commit }, { job, environment });
    expect(again.entryPoints).toEqual(second.entryPoints);
  });

  test("nothing of the worker's machine is read unless local sources are allowed", async () => {
    const environment = { allowLocalSources: false };
    const secret = await makeRepository(daemon, { "flake.nix": flakeOf(`{ secret = "x"; }`) });
    const record = await evaluateRepository(daemon, secret, { job: { wildcard: "*" }, environment });
    expect(record.outcome).toMatchObject({
      message: expect.stringContaining("is not fetched: a worker takes repositories over https"),
    });

    const fetched = `builtins.fetchGit { url = "file://${secret.folder}"; rev = "${secret.commit}"; }`;
    const fetches = `builtins.readFile ((${fetched}) + "/flake.nix")`;
    const flake = flakeOf(`{ ${PACKAGES} = {
      plain = mk "plain" "" { src = ./flake.nix; };
      fetches = mk "fetches" "" { value = ${fetches}; };
      reads = mk "reads" "" { value = builtins.readFile ${secret.folder}/flake.nix; };
      environment = mk "e\${builtins.getEnv "HOME"}\${builtins.getEnv "NIX_REMOTE"}" "" {};
    }; }`);
    const repository = await makeRepository(daemon, { "flake.nix": flake });
    // Brought in while it was allowed; the same repository is then evaluated without.
    await evaluateRepository(daemon, repository, { job: { wildcard: "*" } });
    const strict = await evaluateRepository(daemon, repository, { job: { wildcard: `${PACKAGES}.*` }, environment });

    expect(Object.keys(strict.entryPoints)).toEqual([
      "packages/x86_64-linux/environment",
      "packages/x86_64-linux/plain",
    ]);
    expect(strict.entryPoints["packages/x86_64-linux/environment"]).toMatch(/-e\.drv$/);
    expect(strict.errors["packages/x86_64-linux/fetches"]).toMatch(/forbidden/);
    expect(strict.errors["packages/x86_64-linux/reads"]).toMatch(/forbidden/);
  });

  test("locked inputs on the worker's machine are refused before Nix sees them", async () => {
    const locked = { type: "path", path: "/etc", narHash: "sha256-AAAA", lastModified: 1 };
    const lock = {
      nodes: { etc: { locked, original: locked }, root: { inputs: { etc: "etc" } } },
      root: "root",
      version: 7,
    };
    const flake = `{ inputs.etc.url = "path:/etc"; outputs = { self, etc }: { }; }`;
    const repository = await makeRepository(daemon, { "flake.nix": flake, "flake.lock": JSON.stringify(lock) });
    await evaluateRepository(daemon, repository, { job: { wildcard: "*" } });
    const environment = { allowLocalSources: false };
    const record = await evaluateRepository(daemon, repository, { job: { wildcard: "*" }, environment });

    expect(record.outcome).toMatchObject({
      message: expect.stringContaining("the flake's input etc points to path:/etc"),
    });
    await expect(access(join(daemon.root, "nix", "store"))).resolves.toBeUndefined();
  });
});

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error("what was waited for did not happen");
    await sleep(50);
  }
}

async function commandLines(): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  return await Promise.all(
    pids.map(async (pid) => {
      const read = (name: string) => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
      return `${(await read("cmdline")).replaceAll("\0", " ")} ${await read("environ")}`;
    }),
  );
}
