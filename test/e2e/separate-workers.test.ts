import { randomUUID } from "node:crypto";
import { access, readdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import { type SshServer, sshServerAvailable, withSshServer } from "../support/ssh-server.ts";
import { commitFiles, MAKE, makeRepository, type TestRepository } from "../worker/evaluation-setup.ts";
import { addProject, type Gradient, ORGANIZATION, withGradient } from "./gradient.ts";
import { type Service, startService } from "./process.ts";

const nix = nixAvailable();
const ssh = sshServerAvailable();
const why = [nix, ssh].flatMap((one) => (one.ok ? [] : [one.reason])).join("; ");

interface Machine {
  readonly name: string;
  readonly daemon: NixDaemon;
  readonly folder: string;
  readonly service: Service;
}

describe.skipIf(!nix.ok || !ssh.ok)(`a machine for each step${why && `: ${why}`}`, () => {
  const started = new AsyncDisposableStack();
  let gradient: Gradient;
  let server: SshServer;
  let fetcher: Machine;
  let evaluator: Machine;
  let builder: Machine;
  let repository: TestRepository;
  let input: TestRepository;
  let other: TestRepository;

  beforeAll(async () => {
    gradient = started.use(await withGradient());
    await gradient.worker.stop();
    fetcher = await addMachine("fetcher", { FETCH: "true" });
    evaluator = await addMachine("evaluator", { EVAL: "true" });
    builder = await addMachine("builder", { BUILD: "true" });
    const key = await gradient.api.request<string>("GET", `/orgs/${ORGANIZATION}/ssh`);
    server = started.use(await withSshServer(join(gradient.folder, "sshd"), key));

    const library = (text: string) => ({ "flake.nix": `{ outputs = { self }: { text = "${text}"; }; }` });
    input = await makeRepository(gradient.daemon, library("as-locked"));
    other = await makeRepository(gradient.daemon, library("as-overridden"));
    const flake = `{
      inputs.library.url = "git+${server.url}${input.folder}?ref=main";
      outputs = { self, library }: let ${MAKE} in { packages.\${system}.app =
        mk "app-\${library.text}" "read -r line < $source; echo $line > $out" { source = ./source.txt; }; };
    }`;
    repository = await makeRepository(gradient.daemon, { "flake.nix": flake, "source.txt": "the source\n" });
    // As somebody with a key of their own does it.
    const env = { ...gradient.daemon.env, HOME: gradient.folder };
    const lock = [
      "nix",
      "flake",
      "lock",
      `${repository.folder}`,
      "--extra-experimental-features",
      "nix-command flakes",
    ];
    const local = ["--override-input", "library", `git+file://${input.folder}`];
    const shown = await nixOutput(
      ["nix", "flake", "metadata", "--json", repository.folder, ...local, ...lock.slice(4)],
      env,
    );
    const { locks } = JSON.parse(shown) as { locks: { nodes: { library: { locked: object; original: object } } } };
    const url = `${server.url}${input.folder}`;
    locks.nodes.library.original = { type: "git", url, ref: "main" };
    locks.nodes.library.locked = { ...locks.nodes.library.locked, url, ref: "main" };
    const commit = await commitFiles(repository.folder, { "flake.lock": JSON.stringify(locks) }, "lock");
    repository = { ...repository, commit, url: `${server.url}${repository.folder}` };
  });
  afterAll(() => started.disposeAsync());

  /** A machine with a store of its own that may do one thing. */
  async function addMachine(name: string, capabilities: Readonly<Record<string, string>>): Promise<Machine> {
    const daemon = started.use(await withNixDaemon());
    const id = randomUUID();
    const folder = join(gradient.folder, name);
    const peers = join(gradient.folder, `${name}.peers`);
    const registered = await gradient.api.request<{ peer_id: string; token: string }>(
      "POST",
      `/orgs/${ORGANIZATION}/workers`,
      { worker_id: id },
    );
    await writeFile(peers, `${registered.peer_id}:${registered.token}\n`);
    const may = Object.fromEntries(
      Object.entries(capabilities).map(([what, value]) => [`GRADIENT_WORKER_CAPABILITY_${what}`, value]),
    );
    const service = started.use(
      startService("worker/main.ts", {
        ...may,
        NIX_REMOTE: daemon.storeUrl,
        NIX_CONF_DIR: daemon.env.NIX_CONF_DIR ?? "",
        GRADIENT_WORKER_SERVER_URL: `${gradient.url.replace("http", "ws")}/proto`,
        GRADIENT_WORKER_DATA_DIR: folder,
        GRADIENT_WORKER_ID: id,
        GRADIENT_WORKER_PEERS_FILE: peers,
        GRADIENT_WORKER_GCROOTS_DIR: join(folder, "gcroots"),
        GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true",
      }),
    );
    await service.waitFor("connected to the server");
    return { name, daemon, folder, service };
  }

  async function evaluateAndWait(project: string) {
    const id = await gradient.api.evaluate(project);
    const view = await gradient.api.waitForEnd(id);
    return { id, view, builds: await gradient.api.builds(id), messages: await gradient.api.messages(id) };
  }

  test("one fetches over ssh, one evaluates without a network, one builds", async () => {
    const project = await addProject(gradient.api, "apart", repository.url, "packages.*.*");
    const { view, builds, messages } = await evaluateAndWait(project);

    expect([view.status, messages]).toEqual(["Completed", []]);
    expect(builds).toMatchObject([{ status: "Completed", name: expect.stringMatching(/app-as-locked/) }]);
    // Nobody did the work of another.
    expect(await readdir(join(fetcher.folder, "evaluation"))).toHaveLength(1);
    for (const machine of [evaluator, builder]) {
      const [organization] = await readdir(join(machine.folder, "evaluation")).catch(() => []);
      const repositories = join(machine.folder, "evaluation", organization ?? "none", "repositories");
      await expect(access(repositories), machine.name).rejects.toThrow("ENOENT");
    }
  });

  test("the same with an input overridden in the project", async () => {
    const project = await addProject(gradient.api, "overridden", repository.url, "packages.*.*");
    await gradient.api.request("POST", `/projects/${project}/flake-inputs`, {
      input_name: "lib*",
      url: `git+${server.url}${other.folder}?ref=main`,
    });
    const { view, builds } = await evaluateAndWait(project);

    expect(view.status).toBe("Completed");
    expect(builds).toMatchObject([{ status: "Completed", name: expect.stringMatching(/app-as-overridden/) }]);
  });

  test("an input whose repository is gone is taken from where it was brought before", async () => {
    const project = await addProject(gradient.api, "gone", repository.url, "packages.*.*");
    await rename(input.folder, `${input.folder}-gone`);
    const { view, builds, messages } = await evaluateAndWait(project);
    await rename(`${input.folder}-gone`, input.folder);

    expect([view.status, messages]).toEqual(["Completed", []]);
    expect(builds).toHaveLength(1);
  });

  test("while nobody evaluates, the evaluation says so", async () => {
    await evaluator.service.stop();
    const project = await addProject(gradient.api, "waits", repository.url, "packages.*.*");
    const id = await gradient.api.evaluate(project);
    await expect
      .poll(async () => (await gradient.api.evaluation(id)).waiting_reason, { timeout: 20_000 })
      .toMatchObject({ kind: "eval_workers", capability: "eval" });
  });
});
