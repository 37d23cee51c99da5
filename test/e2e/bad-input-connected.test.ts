import { randomUUID } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { commitFlake } from "./flake.ts";
import { addProject, type Gradient, ORGANIZATION, withGradient } from "./gradient.ts";
import { type Service, startService } from "./process.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

/** Seconds that builders sleep, each test its own, so that its processes can be told from others'. */
const SECONDS = {
  daemon: 8.301,
  lease: 14.302,
  deactivated: 8.303,
  project: 7304,
  organization: 7305,
  stop: 3.306,
  share: 2.307,
};

interface Registration {
  readonly worker_id: string;
  readonly active: boolean;
}

describe.skipIf(!nix.ok)(`what happens to a worker that is connected${reason}`, () => {
  let gradient: Gradient;

  beforeEach(() => {
    gradient = undefined as unknown as Gradient;
  });

  afterEach(async () => {
    await gradient?.[Symbol.asyncDispose]();
  });

  /** Evaluates a flake whose packages are these, by name: shell scripts. */
  async function evaluate(packages: Readonly<Record<string, string>>, name = "site"): Promise<string> {
    const code = Object.entries(packages).map(
      ([attribute, script]) => `${attribute} = mk "${attribute}" ''${script}'';`,
    );
    const flake = `{ outputs = { self }: let
      mk = name: script: derivation {
        inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
      };
    in { packages.x86_64-linux = { ${code.join("\n")} }; }; }
    `;
    const url = await commitFlake(join(gradient.folder, name), { "flake.nix": flake }, "A commit");
    return await gradient.api.evaluate(await addProject(gradient.api, name, url, "packages.*"));
  }

  async function statusOf(evaluation: string, name: string): Promise<string | undefined> {
    return (await gradient.api.builds(evaluation)).find((build) => build.name.endsWith(`-${name}.drv`))?.status;
  }

  async function waitForBuilding(evaluation: string, name: string, seconds: number): Promise<void> {
    await expect.poll(() => statusOf(evaluation, name), { timeout: 20_000 }).toBe("Building");
    await expect.poll(() => sleepers(seconds), { timeout: 10_000 }).not.toEqual([]);
  }

  async function registration(): Promise<Registration> {
    const [worker] = await gradient.api.request<Registration[]>("GET", `/orgs/${ORGANIZATION}/workers`);
    if (!worker) throw new Error("no worker is registered");
    return worker;
  }

  test("its daemon goes away and comes back: the build is tried again, and nobody has to do anything", async () => {
    gradient = await withGradient();
    const waits = `sleep ${SECONDS.daemon}; echo > $out`;
    const evaluation = await evaluate({ waits });
    await waitForBuilding(evaluation, "waits", SECONDS.daemon);

    await gradient.daemon.kill();
    await gradient.worker.waitFor('"name":"waits","status":"failed"');
    expect(gradient.worker.output()).toContain("the nix-daemon");
    await gradient.daemon.restart();

    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
    // The worker says so once the server has the result.
    await gradient.worker.waitFor('"name":"waits","status":"built"');
  });

  test("a server that stops does not wait for it, and what it built meanwhile is taken by the next one", async () => {
    gradient = await withGradient();
    const evaluation = await evaluate({ slow: `sleep ${SECONDS.stop}; echo > $out` });
    await waitForBuilding(evaluation, "slow", SECONDS.stop);

    const started = performance.now();
    expect(await gradient.server.stop()).toBe(0);
    expect(performance.now() - started).toBeLessThan(8_000);
    await gradient.worker.waitFor('"reason":"the server is stopping"');
    await expect.poll(() => sleepers(SECONDS.stop), { timeout: 10_000 }).toEqual([]);
    await gradient.startServer();

    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
  });

  test("a server away for longer than the lease: it stops its builder, and builds again with the next", async () => {
    gradient = await withGradient({ GRADIENT_WORKER_HEARTBEAT_TIMEOUT_SECS: "3" });
    const waits = `sleep ${SECONDS.lease}; echo > $out`;
    const evaluation = await evaluate({ waits });
    await waitForBuilding(evaluation, "waits", SECONDS.lease);
    // While both are there a lease holds for longer than its length.
    await sleep(4_500);
    expect(await statusOf(evaluation, "waits")).toBe("Building");

    await gradient.server.kill();
    await expect.poll(() => sleepers(SECONDS.lease), { timeout: 15_000 }).toEqual([]);
    await gradient.startServer();

    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
  }, 120_000);

  test("it is deactivated: its build stops, it says why it has no server, and goes on once it is active", async () => {
    gradient = await withGradient();
    const waits = `sleep ${SECONDS.deactivated}; echo > $out`;
    const evaluation = await evaluate({ waits });
    await waitForBuilding(evaluation, "waits", SECONDS.deactivated);
    const path = `/orgs/${ORGANIZATION}/workers/${(await registration()).worker_id}`;

    await gradient.api.request("PATCH", path, { active: false });
    await gradient.worker.waitFor("this worker is deactivated: activate it in the list of its organization's workers");
    await expect.poll(() => sleepers(SECONDS.deactivated), { timeout: 10_000 }).toEqual([]);
    await expect.poll(() => statusOf(evaluation, "waits")).toBe("Queued");

    await gradient.api.request("PATCH", path, { active: true });
    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
  });

  test("its token is replaced: it is refused by name, and goes on once its file has the new one", async () => {
    gradient = await withGradient();
    const { worker_id } = await registration();
    await gradient.api.request("DELETE", `/orgs/${ORGANIZATION}/workers/${worker_id}`);
    const added = await gradient.api.request<{ peer_id: string; token: string }>(
      "POST",
      `/orgs/${ORGANIZATION}/workers`,
      { worker_id },
    );

    await gradient.worker.waitFor(`no valid token in the worker's peers file (${added.peer_id}: invalid token)`);
    await writeFile(join(gradient.folder, "peers"), `${added.peer_id}:${added.token}\n`);

    const evaluation = await evaluate({ good: "echo > $out" });
    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
  });

  test("a project is deleted while it builds: its builder stops, and other projects go on", async () => {
    gradient = await withGradient();
    const evaluation = await evaluate({ endless: `sleep ${SECONDS.project}` });
    await waitForBuilding(evaluation, "endless", SECONDS.project);

    await gradient.api.request("DELETE", `/projects/${ORGANIZATION}/site`);

    await expect.poll(() => sleepers(SECONDS.project), { timeout: 10_000 }).toEqual([]);
    await expect(gradient.api.evaluation(evaluation)).rejects.toThrow("404 not_found");
    const other = await evaluate({ good: "echo > $out" }, "other");
    expect(await gradient.api.waitForEnd(other)).toMatchObject({ status: "Completed" });
  });

  test("a project is deleted while it is evaluated: the evaluator stops, and other projects go on", async () => {
    gradient = await withGradient();
    const endless = `{ outputs = { self }: let f = n: if n == 0 then 0 else f (n - 1); in
      { packages.x86_64-linux.endless = builtins.seq (builtins.foldl' (a: b: b) 0
        (builtins.concatMap (x: builtins.genList (y: f 1000) 100000) (builtins.genList (x: x) 100000))) self; }; }`;
    const url = await commitFlake(join(gradient.folder, "endless"), { "flake.nix": endless }, "Endless");
    const evaluation = await gradient.api.evaluate(await addProject(gradient.api, "endless", url, "packages.*"));
    const status = async () => (await gradient.api.evaluation(evaluation)).status;
    await expect.poll(status, { timeout: 20_000 }).toBe("EvaluatingDerivation");

    await expect.poll(() => evaluators(gradient.folder), { timeout: 10_000 }).toHaveLength(1);
    await gradient.api.request("DELETE", `/projects/${ORGANIZATION}/endless`);

    const other = await evaluate({ good: "echo > $out" }, "other");
    expect(await gradient.api.waitForEnd(other, 30_000)).toMatchObject({ status: "Completed" });
    await expect.poll(() => evaluators(gradient.folder), { timeout: 10_000 }).toEqual([]);
  });

  test("its organization is deleted while it builds: the builder stops, and it says that nobody knows it", async () => {
    gradient = await withGradient();
    const evaluation = await evaluate({ endless: `sleep ${SECONDS.organization}` });
    await waitForBuilding(evaluation, "endless", SECONDS.organization);
    const { worker_id } = await registration();

    await gradient.api.request("DELETE", `/orgs/${ORGANIZATION}`);

    await expect.poll(() => sleepers(SECONDS.organization), { timeout: 10_000 }).toEqual([]);
    await gradient.worker.waitFor(`no organization has registered the worker ${worker_id}: register it, then`);
    expect(gradient.server.output()).not.toContain('"level":"error"');
    expect(await gradient.worker.stop()).toBe(0);
  });

  test("two workers of one organization share its work, and none builds what the other has built", async () => {
    gradient = await withGradient({ GRADIENT_MAX_CONCURRENT_BUILDS: "2" });
    await using second = await startSecondWorker(gradient);
    const names = Array.from({ length: 8 }, (_, i) => `part${i}`);
    const scripts = names.map((name) => [name, `sleep ${SECONDS.share}; echo ${name} > $out`] as const);
    const evaluation = await evaluate(Object.fromEntries(scripts));

    expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
    const built = () => [gradient.worker, second].map(builtNames);
    // A worker's words may come after the evaluation's end.
    await expect.poll(() => built().flat().sort()).toEqual(names);
    for (const own of built()) expect(own.length).toBeGreaterThanOrEqual(2);
  });
});

/** Another worker of the organization, with an id and a folder of its own, on the same daemon. */
async function startSecondWorker({ api, url, daemon, folder }: Gradient): Promise<Service> {
  const id = randomUUID();
  const { peer_id, token } = await api.request<{ peer_id: string; token: string }>(
    "POST",
    `/orgs/${ORGANIZATION}/workers`,
    { worker_id: id },
  );
  const service = startService("worker/main.ts", {
    NIX_REMOTE: daemon.storeUrl,
    NIX_CONF_DIR: daemon.env.NIX_CONF_DIR ?? "",
    GRADIENT_WORKER_SERVER_URL: `${url.replace("http", "ws")}/proto`,
    GRADIENT_WORKER_DATA_DIR: join(folder, "second-worker"),
    GRADIENT_WORKER_ID: id,
    GRADIENT_WORKER_PEERS: `${peer_id}:${token}`,
    GRADIENT_WORKER_GCROOTS_DIR: join(folder, "second-gcroots"),
    GRADIENT_WORKER_CAPABILITY_BUILD: "true",
    GRADIENT_MAX_CONCURRENT_BUILDS: "2",
  });
  await service.waitFor("connected to the server");
  return service;
}

function builtNames({ output }: Service): string[] {
  return output()
    .split("\n")
    .flatMap((line) => (line.includes('"message":"build ended"') ? [(JSON.parse(line) as { name: string }).name] : []));
}

async function sleepers(seconds: number): Promise<string[]> {
  return await processes((command) => command === `sleep\0${seconds}\0`);
}

/** Those at work: others are started ahead of need and wait. */
async function evaluators(folder: string): Promise<string[]> {
  return await processes((command, state) => state === "R" && command.includes(folder) && /^[^\0]*nix/.test(command));
}

async function processes(wanted: (command: string, state: string) => boolean): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const seen = pids.map(async (pid) => {
    const read = (name: string) => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
    const [command, stat] = await Promise.all([read("cmdline"), read("stat")]);
    // proc(5): the state stands behind the name in parentheses.
    return wanted(command, stat.slice(stat.lastIndexOf(")") + 2)[0] ?? "") ? [command] : [];
  });
  return (await Promise.all(seen)).flat();
}
