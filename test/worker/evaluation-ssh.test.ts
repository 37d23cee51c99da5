import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { generateSshKey } from "#core/services/ssh-key.ts";
import type { EvaluationEnvironment } from "#worker/evaluation/environment.ts";
import { SshAgents } from "#worker/evaluation/ssh-agent.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import { type SshServer, sshServerAvailable, withSshServer } from "../support/ssh-server.ts";
import {
  commitFiles,
  evaluateRepository,
  flakeOf,
  MAKE,
  makeRepository,
  type TestRepository,
} from "./evaluation-setup.ts";

const run = promisify(execFile);
const nix = nixAvailable();
const ssh = sshServerAvailable();
const why = [nix, ssh].flatMap((one) => (one.ok ? [] : [one.reason])).join("; ");

describe.skipIf(!nix.ok || !ssh.ok)(`repositories over ssh${why && `: ${why}`}`, () => {
  let daemon: NixDaemon;
  let server: SshServer;
  let repository: TestRepository;
  let secretKey: string;
  const agents = new SshAgents();
  const variables = { PATH: process.env.PATH ?? "" };

  beforeAll(async () => {
    daemon = await withNixDaemon();
    const key = await generateSshKey("acme@gradient");
    secretKey = key.secretKey;
    server = await withSshServer(join(daemon.folder, "sshd"), key.publicKey);
    const made = await makeRepository(daemon, { "flake.nix": flakeOf(`{ packages.a = mk "over-ssh" "" {}; }`) });
    repository = { ...made, url: `${server.url}${made.folder}` };
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await daemon?.[Symbol.asyncDispose]();
  });

  async function evaluateOver(name: string, environment: Partial<EvaluationEnvironment>, wildcard = "packages.a") {
    const dataDir = join(daemon.folder, name);
    return await evaluateRepository(daemon, repository, {
      job: { wildcard },
      environment: { dataDir, ...environment },
    });
  }

  test("the organization's key opens the repository, and without it nothing does", async () => {
    await using key = await agents.hold(secretKey, { variables, user: null });
    const withKey = await evaluateOver("with-key", { sshAgentSocket: key.socketPath });
    const without = await evaluateOver("without-key", {});

    expect(withKey.entryPoints["packages/a"]).toMatch(/-over-ssh\.drv$/);
    expect(without.outcome).toMatchObject({ message: expect.stringContaining("Permission denied") });
  });

  test("inputs over ssh are fetched with it too", async () => {
    const flake = `{ inputs.library.url = "git+${repository.url}?ref=main";
      outputs = { self, library }: let ${MAKE} in {
      packages.b = mk "needs" "" { needed = library.packages.a; }; }; }`;
    const dependent = await makeRepository(daemon, { "flake.nix": flake });
    await using key = await agents.hold(secretKey, { variables, user: null });
    const anyHost = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
    const command = `ssh -F none ${anyHost} -o IdentityAgent=${key.socketPath}`;
    const env = { ...daemon.env, HOME: daemon.folder, GIT_SSH_COMMAND: command };
    const features = ["--extra-experimental-features", "nix-command flakes"];
    await nixOutput(["nix", "flake", "lock", dependent.folder, ...features], env);
    const commit = await commitFiles(dependent.folder, {}, "lock");
    const environment = { dataDir: join(daemon.folder, "with-input"), sshAgentSocket: key.socketPath };
    const job = { wildcard: "packages.b" };

    const record = await evaluateRepository(daemon, { ...dependent, commit }, { job, environment });
    expect([record.outcome, record.errors]).toEqual([{ outcome: "completed" }, {}]);
  });

  test("a server that shows another key than before is not believed", async () => {
    await using key = await agents.hold(secretKey, { variables, user: null });
    const environment = { sshAgentSocket: key.socketPath };
    const dataDir = join(daemon.folder, "learned");
    expect((await evaluateOver("learned", environment)).outcome).toEqual({ outcome: "completed" });
    const learned = await readFile(join(dataDir, "known_hosts"), "utf8");
    // What a server between would show.
    await writeFile(
      join(dataDir, "known_hosts"),
      learned.replace(/AAAA\S+/, "AAAAC3NzaC1lZDI1NTE5AAAAIJ".padEnd(68, "A")),
    );
    const commit = await commitFiles(repository.url.replace(server.url, ""), { "more.txt": "2" }, "2");
    const job = { wildcard: "packages.a" };
    const record = await evaluateRepository(
      daemon,
      { ...repository, commit },
      { job, environment: { dataDir, ...environment } },
    );

    expect(record.outcome).toMatchObject({ message: expect.stringMatching(/Host key verification failed/) });
  });

  test("where the operator lists the keys of servers, others are refused from the first", async () => {
    await using key = await agents.hold(secretKey, { variables, user: null });
    const [listed, empty] = [join(daemon.folder, "listed"), join(daemon.folder, "empty")];
    await writeFile(listed, `${server.knownHost}\n`);
    await writeFile(empty, "");
    const common = { sshAgentSocket: key.socketPath };
    const known = await evaluateOver("known", { ...common, sshKnownHostsFile: listed });
    const unknown = await evaluateOver("unknown", { ...common, sshKnownHostsFile: empty });

    expect(known.outcome).toEqual({ outcome: "completed" });
    expect(unknown.outcome).toMatchObject({ message: expect.stringMatching(/Host key verification failed/) });
  });

  test("the key is in no file while it is held, and nowhere afterwards", async () => {
    const held = await agents.hold(secretKey, { variables, user: null });
    const again = await agents.hold(secretKey, { variables, user: null });
    expect(again.socketPath).toBe(held.socketPath);
    const folders = (await readdir(tmpdir())).filter((name) => name.startsWith("gradient-ssh-"));
    for (const name of folders) expect(await readdir(join(tmpdir(), name))).toEqual(["agent"]);
    const list = () => run("ssh-add", ["-l"], { env: { ...variables, SSH_AUTH_SOCK: held.socketPath } });

    await held[Symbol.asyncDispose]();
    expect((await list()).stdout).toContain("acme@gradient");
    await again[Symbol.asyncDispose]();
    await expect(list()).rejects.toThrow();
    await expect(agents.hold("no key", { variables, user: null })).rejects.toThrow("ssh-add does not take it");
  });

  test("the key is gone with a worker that is killed", async () => {
    const script = `
      import { SshAgents } from "#worker/evaluation/ssh-agent.ts";
      const options = { variables: { PATH: process.env.PATH }, user: null };
      const { socketPath } = await new SshAgents().hold(process.env.SECRET_KEY, options);
      process.stdout.write(socketPath + "\\n");
      setInterval(() => {}, 1_000);
    `;
    const env = { PATH: process.env.PATH, SECRET_KEY: secretKey, TMPDIR: daemon.folder };
    const worker = spawn(process.execPath, ["--input-type=module", "-e", script], { env });
    const [line] = (await once(worker.stdout, "data")) as [Buffer];
    const list = async () =>
      await run("ssh-add", ["-l"], { env: { ...variables, SSH_AUTH_SOCK: line.toString().trim() } }).then(
        ({ stdout }) => stdout,
        () => "nobody answers",
      );
    expect(await list()).toContain("acme@gradient");
    worker.kill("SIGKILL");
    await expect.poll(list).toBe("nobody answers");
  });
});
