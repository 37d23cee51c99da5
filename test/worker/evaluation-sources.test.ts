import { spawn } from "node:child_process";
import { chmod, stat } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fetchSource } from "#worker/evaluation/fetch.ts";
import { noteUse } from "#worker/evaluation/unused-repositories.ts";
import { prepareWorker } from "#worker/main-prepare.ts";
import { type OrganizationPlace, OrganizationPlaces } from "#worker/organization-places.ts";
import { type NixDaemon, nixAvailable, withNixDaemon } from "../support/nix.ts";
import { pathWithNix } from "../support/nix-path.ts";
import { commitFiles, environmentFor, evaluateRepository, flakeOf, makeRepository } from "./evaluation-setup.ts";

const nix = nixAvailable();
const isRoot = process.getuid?.() === 0;
const FLAKE = flakeOf(`{ packages.a = mk "a" "" { src = ./flake.nix; }; packages.b = mk "b" "" {}; }`);

describe.skipIf(!nix.ok)("where an evaluation gets its files", () => {
  let daemon: NixDaemon;
  let server: Server;
  let asked: string[];
  beforeAll(async () => {
    daemon = await withNixDaemon();
    // It speaks the first version of git's protocol, which gives the tips of branches and no other commit by its name.
    server = createServer((request, response) => {
      asked.push(request.url ?? "");
      void answerWithGit(daemon.folder, request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterAll(async () => {
    await new Promise((resolve) => server?.close(resolve));
    await daemon?.[Symbol.asyncDispose]();
  });

  test("from a server that refuses a commit by its name it takes all branches, over http", async () => {
    asked = [];
    const repository = await makeRepository(daemon, { "flake.nix": FLAKE });
    await commitFiles(repository.folder, { "flake.nix": FLAKE.replace(`"a"`, `"newer"`) }, "second");
    const { port } = server.address() as AddressInfo;
    const url = `git+http://user:password@127.0.0.1:${port}/${repository.folder.slice(daemon.folder.length + 1)}/.git`;
    const environment = { allowLocalSources: false };

    const job = { wildcard: "packages.#" };
    const record = await evaluateRepository(daemon, { ...repository, url }, { job, environment });
    expect(Object.keys(record.entryPoints)).toEqual(["packages/a", "packages/b"]);
    expect(record.entryPoints["packages/a"]).toMatch(/-a\.drv$/);
    const gone = { ...repository, url, commit: "0".repeat(40) };
    const { outcome } = await evaluateRepository(daemon, gone, { job, environment });
    expect(outcome).toMatchObject({ message: expect.stringContaining(`has no commit ${"0".repeat(40)}`) });
    expect(JSON.stringify(outcome)).not.toContain("password");
    const again = asked.length;
    await evaluateRepository(daemon, { ...repository, url }, { job, environment });
    expect(asked.length, "a commit that is here is not asked for again").toBe(again);
  });

  test("evaluations of one repository at the same time do not disturb each other", async () => {
    const repository = await makeRepository(daemon, { "flake.nix": FLAKE });
    const commits = [repository.commit];
    for (let i = 0; i < 3; i++) commits.push(await commitFiles(repository.folder, { [`file-${i}`]: "x" }, `file ${i}`));
    const environment = environmentFor(daemon);

    const source = (commit: string) => fetchSource({ repository: repository.url, commit }, environment, 30_000);
    const fetched = await Promise.all([...commits, ...commits].map(source));
    const folders = [...new Set(fetched.map(({ folder }) => folder))];
    expect(folders).toHaveLength(1);
    // What is not used for long is removed: a commit that is there already is a use too.
    await noteUse(folders[0] as string, new Date(0));
    await source(repository.commit);
    expect(Date.now() - (await stat(folders[0] as string)).mtimeMs).toBeLessThan(60_000);
    expect(fetched.map(({ commitInfo }) => commitInfo.message).slice(0, 4)).toEqual([
      "first commit",
      "file 0",
      "file 1",
      "file 2",
    ]);
  });

  test("a repository that grows beyond the limit is given up", async () => {
    const repository = await makeRepository(daemon, { "flake.nix": FLAKE });
    const environment = environmentFor(daemon, { repositoryBytesMax: 10 });

    const fetching = fetchSource({ repository: repository.url, commit: repository.commit }, environment, 30_000);
    await expect(fetching).rejects.toMatchObject({ code: "repository_too_large" });
  });

  test("several evaluators at a time find the same", async () => {
    const value = `rec { name = "p\${toString n}"; value = mk name "" {}; }`;
    const many = `builtins.listToAttrs (builtins.genList (n: ${value}) 300)`;
    const repository = await makeRepository(daemon, { "flake.nix": flakeOf(`{ packages.\${system} = ${many}; }`) });
    const job = { wildcard: "packages.*" };

    const one = await evaluateRepository(daemon, repository, { job });
    const three = await evaluateRepository(daemon, repository, { job, environment: { evaluatorsMax: 3 } });
    expect(Object.keys(one.entryPoints)).toHaveLength(300);
    expect(three.entryPoints).toEqual(one.entryPoints);
  });

  test.skipIf(!isRoot)("an evaluator of another user evaluates, and reads nothing of the worker's", async () => {
    const secret = await makeRepository(daemon, { "flake.nix": flakeOf(`{ }`) });
    const narHash = `sha256-${"A".repeat(43)}=`;
    const fetches = `builtins.fetchTree { type = "path"; path = "${secret.folder}"; narHash = "${narHash}"; }`;
    // Nix 2.8 takes any folder for locked when some commit is named with it.
    const byCommit = `builtins.fetchTree { type = "path"; path = "${secret.folder}"; rev = "${"0".repeat(40)}"; }`;
    const flake = flakeOf(`{ packages.a = mk "a" "" { src = ./flake.nix; };
      packages.b = mk "b" "" { secret = toString (${fetches}); };
      packages.c = mk "c" "" { secret = builtins.readFile ((${byCommit}) + "/flake.nix"); }; }`);
    const repository = await makeRepository(daemon, { "flake.nix": flake });
    await chmod(daemon.folder, 0o711);
    await chmod(secret.folder, 0o700);

    const dataDir = join(daemon.folder, "worker-of-nobody");
    const environment = { evaluatorUser: { uid: 65534, gid: 65534 }, dataDir, allowLocalSources: false };
    const { port } = server.address() as AddressInfo;
    const url = `http://127.0.0.1:${port}/${repository.folder.slice(daemon.folder.length + 1)}/.git`;
    asked = [];
    const record = await evaluateRepository(
      daemon,
      { ...repository, url },
      { job: { wildcard: "packages.#" }, environment },
    );
    expect(Object.keys(record.entryPoints)).toEqual(["packages/a"]);
    expect(record.errors["packages/b"]).toMatch(/[Pp]ermission denied|forbidden in restricted mode/);
    expect(record.errors["packages/c"]).toMatch(/[Pp]ermission denied|unlocked input/);
  });

  test.skipIf(!isRoot)(
    "evaluators of one organization read nothing of another's, though they are one user",
    async () => {
      await chmod(daemon.folder, 0o711);
      const places = new OrganizationPlaces(join(daemon.folder, "worker-of-two"), { uid: 65_534, gid: 65_534 });
      const [theirs, own] = [await places.of("theirs"), await places.of("own")];
      const { port } = server.address() as AddressInfo;
      const evaluateFor = async ({ folder, user }: OrganizationPlace, outputs: string) => {
        const repository = await makeRepository(daemon, { "flake.nix": flakeOf(outputs) });
        const url = `http://127.0.0.1:${port}/${repository.folder.slice(daemon.folder.length + 1)}/.git`;
        const environment = { evaluatorUser: user, dataDir: folder, allowLocalSources: false };
        return await evaluateRepository(
          daemon,
          { ...repository, url },
          { job: { wildcard: "packages.#" }, environment },
        );
      };
      const first = await evaluateFor(theirs, `{ packages.a = mk "a" "" {}; }`);
      expect(Object.keys(first.entryPoints)).toEqual(["packages/a"]);

      const steal = (name: string) =>
        `"\${builtins.fetchTree { type = "path"; path = "${theirs.folder}/${name}"; rev = "${"0".repeat(40)}"; }}"`;
      const second = await evaluateFor(
        own,
        `{ packages.a = mk "a" "" {}; packages.b = mk "b" "" { x = ${steal("repositories")}; };
         packages.c = mk "c" "" { x = ${steal("evaluator-home")}; }; }`,
      );
      expect(Object.keys(second.entryPoints)).toEqual(["packages/a"]);
      for (const name of ["packages/b", "packages/c"]) {
        expect(second.errors[name]).toMatch(/[Pp]ermission denied|unlocked input/);
      }
    },
  );

  test("a worker for strangers' flakes starts only where they cannot read its files", async () => {
    const environment = {
      ...daemon.env,
      PATH: pathWithNix(),
      GRADIENT_WORKER_SERVER_URL: "ws://127.0.0.1:1/proto",
      GRADIENT_WORKER_DATA_DIR: join(daemon.folder, "worker-at-start"),
      GRADIENT_WORKER_GCROOTS_DIR: "",
      GRADIENT_WORKER_CAPABILITY_FETCH: "true",
      GRADIENT_WORKER_CAPABILITY_EVAL: "true",
    };
    const [major = 0, minor = 0] = daemon.nixVersion.split(".").map(Number);
    const isOld = major === 2 && minor < 26;

    const started = prepareWorker(environment);
    if (isOld) await expect(started).rejects.toThrow("set GRADIENT_WORKER_EVALUATOR_USER to a user");
    else expect((await started).evaluatorUser).toBeNull();
    const trusting = await prepareWorker({ ...environment, GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true" });
    expect(trusting.evaluatorUser).toBeNull();
    if (!isRoot) return;
    await chmod(daemon.folder, 0o711);
    const ofAnother = { GRADIENT_WORKER_DATA_DIR: join(daemon.folder, "worker-of-another") };
    const user = { GRADIENT_WORKER_EVALUATOR_USER: "nobody" };
    const { evaluatorUser } = await prepareWorker({ ...environment, ...ofAnother, ...user });
    expect(evaluatorUser?.uid).toBeGreaterThan(0);
  });
});

/** RFC 3875: `git http-backend` as a CGI program. */
async function answerWithGit(folder: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost");
  const env = {
    PATH: process.env.PATH,
    GIT_PROJECT_ROOT: folder,
    GIT_HTTP_EXPORT_ALL: "1",
    PATH_INFO: pathname,
    QUERY_STRING: searchParams.toString(),
    REQUEST_METHOD: request.method,
    CONTENT_TYPE: request.headers["content-type"],
    HTTP_CONTENT_ENCODING: request.headers["content-encoding"],
    REMOTE_ADDR: "127.0.0.1",
  };
  const child = spawn("git", ["-c", "safe.directory=*", "http-backend"], { env, stdio: ["pipe", "pipe", "ignore"] });
  request.pipe(child.stdin);
  const parts: Buffer[] = [];
  for await (const part of child.stdout) parts.push(part as Buffer);
  const answer = Buffer.concat(parts);
  const end = answer.indexOf("\r\n\r\n");
  for (const line of answer.subarray(0, end).toString().split("\r\n")) {
    const [name = "", value = ""] = line.split(/: (.*)/);
    if (name === "Status") response.statusCode = Number.parseInt(value, 10);
    else response.setHeader(name, value);
  }
  response.end(answer.subarray(end + 4));
}
