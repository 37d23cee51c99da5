import { readdir, symlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fetchFlake } from "#worker/evaluation/evaluate.ts";
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
const FEATURES = ["--extra-experimental-features", "nix-command flakes"];
const FLAKE = `{
  inputs.sub.url = "path:./sub"; outputs = { self, sub }: let ${MAKE} in { packages.a = mk sub.name "" {}; };
}`;
const JOB = { wildcard: "packages.a" };
const STRICT = { allowLocalSources: false };

describe.skipIf(!nix.ok)("an input that is a folder of the flake", () => {
  let author: NixDaemon;
  let served: GitServer;
  let repository: TestRepository;
  beforeAll(async () => {
    author = await withNixDaemon();
    served = await withGitServer(author.folder);
    const made = await makeRepository(author, {
      "flake.nix": FLAKE,
      "sub/flake.nix": `{ outputs = { self }: { name = "from-sub"; }; }`,
    });
    const env = { ...author.env, HOME: author.folder };
    const lock = ["nix", "flake", "lock", made.folder, ...FEATURES];
    await nixOutput(lock as ["nix"], env);
    const commit = await commitFiles(made.folder, {}, "lock");
    repository = { ...made, commit, url: `${served.url}/${basename(made.folder)}` };
  });
  afterAll(async () => {
    await served?.[Symbol.asyncDispose]();
    await author?.[Symbol.asyncDispose]();
  });

  test("is evaluated in a store that has never seen it", async () => {
    await using fresh = await withNixDaemon();
    const record = await evaluateRepository(fresh, repository, { job: JOB, environment: STRICT });
    expect([record.errors, record.entryPoints["packages/a"]]).toEqual([{}, expect.stringMatching(/-from-sub\.drv$/)]);
  });

  test("is evaluated from a source that was sent", async () => {
    await using fresh = await withNixDaemon();
    const add = ["nix", "store", "add-path", "--name", "source", repository.folder, ...FEATURES];
    const url = (await nixOutput(add as ["nix"], fresh.env)).trim();
    const sent = { folder: "", url, commit: "0".repeat(40) };
    const record = await evaluateRepository(fresh, sent, { job: JOB, environment: STRICT });
    expect([record.errors, Object.keys(record.entryPoints)]).toEqual([{}, ["packages/a"]]);
  });

  test("goes along when one machine fetches and another one evaluates", async () => {
    await using fresh = await withNixDaemon();
    const sink = { takeStored: async () => {}, phase() {}, commitInfo() {}, message() {} };
    const { url, commit } = repository;
    const job = { repository: url, commit, overrides: [], timeoutMs: 60_000 };
    const outcome = await fetchFlake(job, environmentFor(fresh, STRICT), sink);
    if (outcome.outcome === "failed") throw new Error(outcome.message);
    const record = await evaluateRepository(fresh, repository, { job: { ...JOB, stored: outcome.stored } });
    expect([record.errors, Object.keys(record.entryPoints)]).toEqual([{}, ["packages/a"]]);
  });

  test("is not brought where a link leads out of the flake", async () => {
    await using fresh = await withNixDaemon();
    const linked = await makeRepository(author, {
      "flake.nix": FLAKE,
      "flake.lock": JSON.stringify({
        nodes: {
          root: { inputs: { sub: "sub" } },
          sub: {
            locked: { type: "path", path: "./out/sub", narHash: `sha256-${"A".repeat(43)}=`, lastModified: 1 },
            original: { type: "path", path: "./sub" },
          },
        },
        root: "root",
        version: 7,
      }),
    });
    await symlink(repository.folder, join(linked.folder, "out"));
    const commit = await commitFiles(linked.folder, {}, "link");
    const url = `${served.url}/${basename(linked.folder)}`;
    const record = await evaluateRepository(fresh, { ...linked, url, commit }, { job: JOB, environment: STRICT });
    expect(record.entryPoints).toEqual({});
    const names = await readdir(join(fresh.root, "nix/store"));
    expect(names.filter((name) => name.endsWith("-source"))).toHaveLength(1);
  });
});
