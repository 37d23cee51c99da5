import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fetchFlake } from "#worker/evaluation/evaluate.ts";
import { gitVariables } from "#worker/evaluation/git.ts";
import { type GitServer, withGitServer } from "../support/git.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import { commitFiles, environmentFor, evaluateRepository, flakeOf, MAKE, makeRepository } from "./evaluation-setup.ts";

const nix = nixAvailable();
const STRICT = { allowLocalSources: false };
const NOBODY = { takeStored: async () => {}, phase() {}, commitInfo() {}, message() {} };

describe.skipIf(!nix.ok)("a flake that wants more than its own files", () => {
  let daemon: NixDaemon;
  let served: GitServer;
  beforeAll(async () => {
    daemon = await withNixDaemon();
    served = await withGitServer(daemon.folder);
    await mkdir(join(daemon.folder, "secret"));
    await writeFile(join(daemon.folder, "secret", "flake.lock"), `{"secret":`);
  });
  afterAll(async () => {
    await served?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
  });

  const servedAs = (folder: string) => `${served.url}/${basename(folder)}`;

  test("folders of the fetching machine that the lock does not name are handed to nobody", async () => {
    const flake = `{
      inputs.secret = { url = "path:${daemon.folder}/secret"; flake = false; };
      outputs = { self, secret }: let ${MAKE} in { packages.a = mk "a" "" {}; };
    }`;
    const { folder, commit } = await makeRepository(daemon, { "flake.nix": flake });
    const job = { repository: servedAs(folder), commit, overrides: [], timeoutMs: 60_000 };
    const outcome = await fetchFlake(job, environmentFor(daemon, STRICT), NOBODY);

    expect(outcome).toMatchObject({
      outcome: "failed",
      message: expect.stringMatching(/on the machine that evaluates|flake\.lock does not fit flake\.nix/),
    });
  });

  test("a lock that is a link is not followed, in a repository and in a source that was sent", async () => {
    const repository = await makeRepository(daemon, { "flake.nix": flakeOf(`{ packages.a = mk "a" "" {}; }`) });
    await symlink(join(daemon.folder, "secret", "flake.lock"), join(repository.folder, "flake.lock"));
    const commit = await commitFiles(repository.folder, {}, "link");
    const job = { wildcard: "packages.a" };
    const asCommit = { ...repository, commit, url: servedAs(repository.folder) };
    const fetched = await evaluateRepository(daemon, asCommit, { job, environment: STRICT });
    expect(fetched.outcome).toMatchObject({ message: expect.stringContaining("flake.lock is a link") });

    const path = await addToStore(repository.folder);
    const sent = { folder: "", url: path, commit: "0".repeat(40) };
    const taken = await evaluateRepository(daemon, sent, { job, environment: STRICT });
    expect(taken.outcome).toMatchObject({ message: expect.stringContaining("it is a link") });
  });

  test("what another machine fetched says nothing of this machine's files", async () => {
    const wrapper = join(daemon.folder, "wrapper");
    await mkdir(wrapper);
    await writeFile(join(wrapper, "flake.nix"), "{ outputs = { self }: { }; }");
    await symlink(join(daemon.folder, "secret", "flake.lock"), join(wrapper, "flake.lock"));
    const path = await addToStore(wrapper);
    const stored = { flakeReference: `path:${path}`, isWrapped: true, paths: [] };
    const repository = { folder: "", url: "https://repository.invalid/", commit: "1".repeat(40) };
    const { outcome } = await evaluateRepository(daemon, repository, { job: { wildcard: "*", stored } });

    expect(outcome).toMatchObject({ outcome: "failed", message: expect.stringContaining("has no lock") });
    expect(JSON.stringify(outcome)).not.toContain("secret");
  });

  test("a repository beside the flake's own is not read by a path that begins like it", async () => {
    const other = await makeRepository(daemon, { "s.txt": "of another repository" });
    const repository = await makeRepository(daemon, { readme: "not yet a flake" });
    const url = servedAs(repository.folder);
    const dataDir = join(daemon.folder, "beside");
    const kept = join(dataDir, "repositories", createHash("sha256").update(url).digest("hex"));
    const spellings = [kept, `${kept}/../../..`, `${kept}/%2e%2e/../..`].map((start, index) => {
      const place = index === 0 ? other.folder : `${start}/${basename(other.folder)}`;
      return `packages.a${index} = mk "a${index}" "" { read = builtins.readFile ((builtins.fetchTree {
        type = "git"; url = "file://${place}"; rev = "${other.commit}"; }) + "/s.txt"); };`;
    });
    const commit = await commitFiles(
      repository.folder,
      { "flake.nix": flakeOf(`{ ${spellings.join("\n")} }`) },
      "read",
    );
    const job = { wildcard: "packages.*" };
    const environment = { ...STRICT, dataDir };
    const { outcome, batches, messages } = await evaluateRepository(
      daemon,
      { folder: kept, url, commit },
      { job, environment },
    );
    expect(outcome).toMatchObject({ outcome: "completed" });
    expect(batches.flatMap(({ nodes }) => nodes)).toEqual([]);
    expect(messages.filter(({ level }) => level === "error")).toHaveLength(3);
  });

  test("an attribute whose name fits no row is an error, and the others are found", async () => {
    const long = `builtins.concatStringsSep "" (builtins.genList (n: "x") 5000)`;
    const flake = flakeOf(`{ packages = { a = mk "a" "" {}; \${${long}} = mk "b" "" {}; }; }`);
    const repository = await makeRepository(daemon, { "flake.nix": flake });
    const record = await evaluateRepository(daemon, repository, { job: { wildcard: "packages.*" } });
    expect([record.outcome, Object.keys(record.entryPoints)]).toEqual([{ outcome: "completed" }, ["packages/a"]]);
    expect(record.errors[""]).toMatch(/^packages\.x+…: an attribute's name has at most 4096 characters/);
    expect(record.batches.flatMap(({ nodes }) => nodes)).toHaveLength(1);
  });

  test("what git does after a fetch of Nix's stays in the evaluator's group", async () => {
    const repository = await makeRepository(daemon, { "flake.nix": flakeOf("{ }") });
    const env = { ...process.env, ...gitVariables(environmentFor(daemon), "/dev/null") };
    const asked = ["gc.autoDetach", "maintenance.autoDetach", "safe.directory"].map((name) =>
      execFileSync("git", ["-C", repository.folder, "config", name], { env, encoding: "utf8" }).trim(),
    );
    expect(asked).toEqual(["false", "false", "*"]);
  });

  async function addToStore(folder: string): Promise<string> {
    const features = ["--extra-experimental-features", "nix-command"];
    const path = await nixOutput(["nix", "store", "add-path", "--name", "source", folder, ...features], daemon.env);
    return path.trim();
  }
});
