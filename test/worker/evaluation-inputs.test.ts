import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FetchOutcome, fetchFlake } from "#worker/evaluation/evaluate.ts";
import type { InputOverride } from "#worker/evaluation/input-overrides.ts";
import type { EvaluationMessage } from "#worker/evaluation/messages.ts";
import type { StoredSource } from "#worker/evaluation/stored-source.ts";
import { type GitServer, withGitServer } from "../support/git.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import {
  commitFiles,
  environmentFor,
  evaluateRepository,
  MAKE,
  makeRepository,
  type TestRepository,
} from "./evaluation-setup.ts";

const nix = nixAvailable();

function library(name: string): string {
  return `{ outputs = { self }: { name = "${name}"; }; }`;
}

describe.skipIf(!nix.ok)("inputs of a flake", () => {
  let daemon: NixDaemon;
  /** What the flake has as its inputs `one`, `other` and `plain`, and what replaces one of them. */
  let one: TestRepository;
  let other: TestRepository;
  let replacement: TestRepository;
  let repository: TestRepository;

  beforeAll(async () => {
    daemon = await withNixDaemon();
    one = await makeRepository(daemon, { "flake.nix": library("one-old") });
    other = await makeRepository(daemon, { "flake.nix": library("other-old") });
    replacement = await makeRepository(daemon, { "flake.nix": library("replaced") });
    const plain = await makeRepository(daemon, { "data.txt": "plain" });
    const flake = `{
      inputs.one.url = "git+file://${one.folder}"; inputs.other.url = "git+file://${other.folder}";
      inputs.plain = { url = "git+file://${plain.folder}"; flake = false; };
      outputs = { self, one, other, plain }: let ${MAKE} in { packages.a =
        mk "\${one.name}-\${other.name}" "" {
          rev = self.rev; time = toString self.lastModified; source = "\${self}"; data = plain;
        };
      };
    }`;
    repository = await makeRepository(daemon, { "flake.nix": flake });
    const env = { ...daemon.env, HOME: daemon.folder };
    await nixOutput(
      ["nix", "flake", "lock", repository.folder, "--extra-experimental-features", "nix-command flakes"],
      env,
    );
    const commit = await commitFiles(repository.folder, {}, "lock");
    repository = { ...repository, commit };
    await commitFiles(one.folder, { "flake.nix": library("one-new") }, "2");
    await commitFiles(other.folder, { "flake.nix": library("other-new") }, "2");
  });
  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  async function evaluateWith(overrides: readonly InputOverride[]) {
    const record = await evaluateRepository(daemon, repository, { job: { wildcard: "packages.a", overrides } });
    expect([record.outcome, record.errors]).toEqual([{ outcome: "completed" }, {}]);
    const warnings = record.messages.filter(({ level }) => level === "warning").map(({ text }) => text);
    return { name: record.entryPoints["packages/a"]?.slice(44), drvPath: record.entryPoints["packages/a"], warnings };
  }

  test("without an override the lock is used as it is", async () => {
    expect(await evaluateWith([])).toMatchObject({ name: "one-old-other-old.drv", warnings: [] });
  });

  test("an override replaces one input, and what is not named stays as it was locked", async () => {
    const url = `git+file://${replacement.folder}`;
    expect(await evaluateWith([{ input: "one", url }])).toMatchObject({ name: "replaced-other-old.drv", warnings: [] });
  });

  test("an override by what is locked anyway changes nothing: revision and source are the flake's own", async () => {
    const url = `git+file://${one.folder}?rev=${one.commit}`;
    expect((await evaluateWith([{ input: "one", url }])).drvPath).toBe((await evaluateWith([])).drvPath);
  });

  test("an override without an address takes the newest state of the input, again each time", async () => {
    expect(await evaluateWith([{ input: "other", url: null }])).toMatchObject({ name: "one-old-other-new.drv" });
    await commitFiles(other.folder, { "flake.nix": library("other-newest") }, "3");
    expect(await evaluateWith([{ input: "other", url: null }])).toMatchObject({ name: "one-old-other-newest.drv" });
  });

  test("a pattern means all inputs that fit, and a name counts before it", async () => {
    const url = `git+file://${replacement.folder}`;
    const overrides = [
      { input: "o*", url: null },
      { input: "one", url },
    ];
    expect(await evaluateWith(overrides)).toMatchObject({ name: "replaced-other-newest.drv", warnings: [] });
  });

  test("an override that fits no input changes nothing and says so", async () => {
    const { name, warnings } = await evaluateWith([{ input: "nosuch", url: "github:owner/name" }]);
    expect(name).toBe("one-old-other-old.drv");
    expect(warnings).toEqual([
      "the override of the input nosuch changes nothing: the flake has no such input; it has one, other, plain",
    ]);
  });

  test("an override may not reach the worker's machine where local sources are not allowed", async () => {
    await evaluateRepository(daemon, repository, { job: { wildcard: "packages.a" } });
    const overrides = [{ input: "one", url: `git+file://${replacement.folder}` }];
    const environment = { allowLocalSources: false };
    const strict = await evaluateRepository(daemon, repository, {
      job: { wildcard: "packages.a", overrides },
      environment,
    });
    expect(strict.outcome).toMatchObject({
      outcome: "failed",
      message: expect.stringContaining("on the machine that evaluates"),
    });
  });

  async function fetchIt(
    overrides: readonly InputOverride[] = [],
  ): Promise<{ outcome: FetchOutcome; messages: EvaluationMessage[] }> {
    const messages: EvaluationMessage[] = [];
    const sink = {
      takeStored: async () => {},
      phase() {},
      commitInfo() {},
      message: (message: EvaluationMessage) => void messages.push(message),
    };
    const job = { repository: repository.url, commit: repository.commit, overrides, timeoutMs: 60_000 };
    const dataDir = join(daemon.folder, `fetcher-${overrides.length}`);
    return { outcome: await fetchFlake(job, environmentFor(daemon, { dataDir }), sink), messages };
  }

  /** Evaluates on a machine that has nothing but these paths, and can reach no repository. */
  async function evaluateElsewhere(stored: StoredSource): Promise<string | undefined> {
    await using elsewhere = await withNixDaemon();
    const copy = [
      "nix",
      "copy",
      "--no-check-sigs",
      "--from",
      daemon.storeUrl,
      "--to",
      elsewhere.storeUrl,
      ...stored.paths,
    ];
    await nixOutput([...(copy as ["nix"]), "--extra-experimental-features", "nix-command flakes"], daemon.env);
    const environment = environmentFor(elsewhere);
    const inputs = [one.folder, other.folder, replacement.folder];
    for (const folder of inputs) await rename(folder, `${folder}-away`);
    const unreachable = { ...repository, url: "https://repository.invalid/" };
    const record = await evaluateRepository(elsewhere, unreachable, {
      job: { wildcard: "packages.a", stored },
      environment,
    });
    expect([record.outcome, record.errors]).toEqual([{ outcome: "completed" }, {}]);
    expect(record.taken).toEqual(stored.paths);
    for (const folder of inputs) await rename(`${folder}-away`, folder);
    return record.entryPoints["packages/a"];
  }

  test("what one machine fetched another one evaluates, to the very same derivation", async () => {
    const { outcome } = await fetchIt();
    const { drvPath } = await evaluateWith([]);

    if (outcome.outcome === "failed") throw new Error(outcome.message);
    expect(outcome.stored.paths).toHaveLength(4);
    expect(await evaluateElsewhere(outcome.stored)).toBe(drvPath);
  });

  test("the same with other inputs", async () => {
    const overrides = [{ input: "one", url: `git+file://${replacement.folder}` }];
    const { outcome } = await fetchIt(overrides);
    const { drvPath } = await evaluateWith(overrides);

    if (outcome.outcome === "failed") throw new Error(outcome.message);
    expect(await evaluateElsewhere(outcome.stored)).toBe(drvPath);
  });

  describe("where local sources are not allowed", () => {
    let served: GitServer;
    let strict: TestRepository;
    let url: string;
    beforeAll(async () => {
      served = await withGitServer(daemon.folder);
      url = `git+${served.url}/${basename(replacement.folder)}?ref=main`;
      const flake = `{
        inputs.one.url = "git+${served.url}/${basename(one.folder)}?ref=main";
        outputs = { self, one }: let ${MAKE} in { packages = {
          a = mk one.name "" { source = "\${self}"; };
          secret = builtins.readFile ((builtins.fetchTree {
            type = "path"; path = "/nix/store/../../${daemon.folder}/secret";
            narHash = "\${builtins.readFile ./hash.txt}";
          }) + "/file");
        }; };
      }`;
      await mkdir(join(daemon.folder, "secret"));
      await writeFile(join(daemon.folder, "secret", "file"), "a secret");
      const hash = await nixOutput(
        ["nix-hash", "--type", "sha256", "--base32", join(daemon.folder, "secret")],
        daemon.env,
      );
      const features = ["--extra-experimental-features", "nix-command flakes"];
      const toSri = ["nix", "hash", "to-sri", "--type", "sha256", hash, ...features];
      const sri = await nixOutput(toSri as ["nix"], daemon.env);
      const made = await makeRepository(daemon, { "flake.nix": flake, "hash.txt": sri });
      await nixOutput(["nix", "flake", "lock", made.folder, ...features], { ...daemon.env, HOME: daemon.folder });
      const commit = await commitFiles(made.folder, {}, "lock");
      strict = { ...made, commit, url: `${served.url}/${basename(made.folder)}` };
    });
    afterAll(() => served?.[Symbol.asyncDispose]());

    const environment = { allowLocalSources: false };

    test("overrides work, and what was fetched can be evaluated elsewhere", async () => {
      const overrides = [{ input: "one", url }];
      const job = { wildcard: "packages.a" };
      const plain = await evaluateRepository(daemon, strict, { job, environment });
      const overridden = await evaluateRepository(daemon, strict, { job: { ...job, overrides }, environment });
      expect(plain.entryPoints["packages/a"]).toMatch(/-one-new\.drv$/);
      expect(overridden.entryPoints["packages/a"]).toMatch(/-replaced\.drv$/);

      for (const [used, expected] of [
        [[], plain],
        [overrides, overridden],
      ] as const) {
        const sink = { takeStored: async () => {}, phase() {}, commitInfo() {}, message() {} };
        const limits = { overrides: used, timeoutMs: 60_000 };
        const outcome = await fetchFlake(
          { repository: strict.url, commit: strict.commit, ...limits },
          environmentFor(daemon, environment),
          sink,
        );
        if (outcome.outcome === "failed") throw new Error(outcome.message);
        const { stored } = outcome;
        const record = await evaluateRepository(daemon, strict, { job: { ...job, stored }, environment });
        expect([record.errors, record.entryPoints]).toEqual([{}, expected.entryPoints]);
      }
    });

    test("a flake with other inputs reads no more of the machine than one without", async ({ skip }) => {
      const isOpen = nix.ok && /^2\.(?:\d|1\d|2[0-5])\./.test(nix.version);
      skip(isOpen, "this Nix lets every flake read every file: evaluators are another user there (decision 0050)");
      const overrides = [{ input: "one", url }];
      const job = { wildcard: "packages.secret" };
      const overridden = await evaluateRepository(daemon, strict, { job: { ...job, overrides }, environment });
      const plain = await evaluateRepository(daemon, strict, { job, environment });

      for (const record of [plain, overridden]) {
        expect(record.errors["packages/secret"]).toMatch(/forbidden/);
        expect(JSON.stringify(record.messages)).not.toContain("a secret");
      }
    });
  });

  test("an input that cannot be fetched is a warning, and the others are there", async () => {
    await using fresh = await withNixDaemon();
    const gone = await makeRepository(fresh, { "flake.nix": library("gone") });
    const stays = await makeRepository(fresh, { "flake.nix": library("stays") });
    const flake = `{
      inputs.gone.url = "git+file://${gone.folder}"; inputs.stays.url = "git+file://${stays.folder}";
      outputs = { self, gone, stays }: let ${MAKE} in {
        packages = { a = mk stays.name "" {}; b = mk gone.name "" {}; };
      };
    }`;
    const broken = await makeRepository(fresh, { "flake.nix": flake });
    const lock = [
      "nix",
      "flake",
      "lock",
      broken.folder,
      "--extra-experimental-features",
      "nix-command flakes",
    ] as const;
    await nixOutput([...lock], { ...fresh.env, HOME: fresh.folder });
    const commit = await commitFiles(broken.folder, {}, "lock");
    await rm(gone.folder, { recursive: true });

    await using fetcher = await withNixDaemon();
    const messages: EvaluationMessage[] = [];
    const sink = {
      takeStored: async () => {},
      phase() {},
      commitInfo() {},
      message: (message: EvaluationMessage) => void messages.push(message),
    };
    const job = { repository: broken.url, commit, overrides: [], timeoutMs: 60_000 };
    const outcome = await fetchFlake(job, environmentFor(fetcher), sink);

    if (outcome.outcome === "failed") throw new Error(outcome.message);
    expect(outcome.stored.paths).toHaveLength(2);
    expect(messages).toMatchObject([
      { level: "warning", source: "fetch", text: expect.stringContaining("the input gone cannot be fetched") },
    ]);
    const wildcard = "packages.#";
    const record = await evaluateRepository(
      fetcher,
      { ...broken, commit },
      { job: { wildcard, stored: outcome.stored } },
    );
    expect(Object.keys(record.entryPoints)).toEqual(["packages/a"]);
    expect(Object.keys(record.errors)).toEqual(["packages/b"]);
  });
});
