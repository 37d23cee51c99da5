import { randomBytes, randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type NixDaemon, nixAvailable, withNixDaemon } from "../support/nix.ts";
import { endedBuilds, findBuild, outputOf, shortName } from "./builds.ts";
import { CacheClient } from "./cache-client.ts";
import { commitFlake, FLAKE } from "./flake.ts";
import { addProject, freePort, type Gradient, ORGANIZATION, withGradient } from "./gradient.ts";
import { type Service, startService } from "./process.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;
const MOMENT = { timeout: 60_000, interval: 20 };
const SYSTEM = "i686-linux";
const FEATURE = "only-there";

/** One more attribute than the flake of the other tests: it rests on the others, and needs the other machine. */
const FLAKE_OF_TWO = FLAKE.replace(
  "in {\n    packages",
  `
    special = derivation {
      name = "special"; system = "${SYSTEM}"; requiredSystemFeatures = [ "${FEATURE}" ];
      builder = "/bin/sh"; PATH = "/usr/bin:/bin";
      args = [ "-c" "echo special is built; cat \${last} > $out; echo \${all} >> $out" ];
    };
  in {
    packages`,
).replace("inherit all text", "inherit special all text");

/** A relay of the installation's organization, with the workers behind it. */
interface Federation {
  readonly gradient: Gradient;
  readonly port: number;
  /** By worker id, as the relay's operator has written them. */
  readonly tokens: Readonly<Record<string, string>>;
  relay: Service;
}

async function startRelay(federation: Federation, environment: Readonly<Record<string, string>>): Promise<void> {
  federation.relay = startService("worker/main.ts", environment);
  await federation.relay.waitFor("connected to the server");
}

/** Registers the relay, and lets the workers of `tokens` in. Answers its environment. */
async function setUpRelay({ gradient, port, tokens }: Federation): Promise<Readonly<Record<string, string>>> {
  const { api, folder, url } = gradient;
  const [downstreams, peers] = [join(folder, "downstreams"), join(folder, "relay.peers")];
  const lines = Object.entries(tokens).map(([id, secret]) => `${id}:*:${secret}\n`);
  await writeFile(downstreams, lines.join(""));
  const id = randomUUID();
  const path = `/orgs/${ORGANIZATION}/workers`;
  const registered = await api.request<{ peer_id: string; token: string }>("POST", path, { worker_id: id });
  await writeFile(peers, `${registered.peer_id}:${registered.token}\n`);
  return {
    GRADIENT_WORKER_CAPABILITY_FEDERATE: "true",
    GRADIENT_WORKER_CAPABILITY_FETCH: "true",
    GRADIENT_WORKER_CAPABILITY_EVAL: "true",
    GRADIENT_WORKER_CAPABILITY_BUILD: "true",
    GRADIENT_WORKER_DISCOVERABLE: "true",
    GRADIENT_WORKER_PORT: String(port),
    GRADIENT_WORKER_DOWNSTREAMS_FILE: downstreams,
    GRADIENT_WORKER_SERVER_URL: `${url.replace("http", "ws")}/proto`,
    GRADIENT_WORKER_DATA_DIR: join(folder, "relay"),
    GRADIENT_WORKER_ID: id,
    GRADIENT_WORKER_PEERS_FILE: peers,
  };
}

/** A worker with a store of its own that connects to the relay. */
async function addWorker(
  { gradient, port, tokens }: Federation,
  workerId: string,
  { daemon, environment }: { readonly daemon: NixDaemon; readonly environment: Readonly<Record<string, string>> },
): Promise<Service> {
  const folder = join(gradient.folder, workerId);
  const service = startService("worker/main.ts", {
    NIX_REMOTE: daemon.storeUrl,
    NIX_CONF_DIR: daemon.env.NIX_CONF_DIR ?? "",
    GRADIENT_WORKER_SERVER_URL: `ws://127.0.0.1:${port}/proto`,
    GRADIENT_WORKER_DATA_DIR: folder,
    GRADIENT_WORKER_ID: workerId,
    GRADIENT_WORKER_PEERS: `*:${tokens[workerId]}`,
    GRADIENT_WORKER_GCROOTS_DIR: join(folder, "gcroots"),
    GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true",
    GRADIENT_WORKER_CAPABILITY_BUILD: "true",
    GRADIENT_MAX_CONCURRENT_BUILDS: "3",
    ...environment,
  });
  await service.waitFor("connected to the server");
  return service;
}

describe.skipIf(!nix.ok)(`workers behind a relay${reason}`, () => {
  const started = new AsyncDisposableStack();
  let gradient: Gradient;
  let federation: Federation;
  let environment: Readonly<Record<string, string>>;
  let common: Service;
  let special: Service;
  let evaluation: string;

  beforeAll(async () => {
    gradient = started.use(await withGradient());
    await gradient.worker.stop();
    const [commonId, specialId] = [randomUUID(), randomUUID()];
    const tokens = { [commonId]: token(), [specialId]: token() };
    federation = { gradient, port: await freePort(), tokens, relay: undefined as unknown as Service };
    environment = await setUpRelay(federation);
    started.defer(() => federation.relay?.[Symbol.asyncDispose]());
    await startRelay(federation, environment);
    common = await addWorker(federation, commonId, {
      daemon: started.use(await withNixDaemon()),
      environment: { GRADIENT_WORKER_CAPABILITY_FETCH: "true", GRADIENT_WORKER_CAPABILITY_EVAL: "true" },
    });
    started.use(common);
    const settings = { "extra-platforms": SYSTEM, "system-features": FEATURE };
    special = await addWorker(federation, specialId, {
      daemon: started.use(await withNixDaemon({ settings })),
      environment: { GRADIENT_WORKER_ARCHITECTURES: SYSTEM, GRADIENT_WORKER_SYSTEM_FEATURES: FEATURE },
    });
    started.use(special);
  }, 120_000);
  afterAll(() => started.disposeAsync());

  test("the server sees one worker with two kinds of places", async () => {
    await expect
      .poll(async () => JSON.stringify(await gradient.api.request("GET", `/orgs/${ORGANIZATION}/workers`)), MOMENT)
      .toMatch(new RegExp(`x86_64-linux.*${SYSTEM}.*${FEATURE}|${SYSTEM}.*${FEATURE}.*x86_64-linux`));
  });

  test("a relay that is killed while a build runs costs nothing of the build, and everything ends", async () => {
    const repository = join(gradient.folder, "repository");
    const url = await commitFlake(repository, { "flake.nix": FLAKE_OF_TWO, "text.txt": "one\n" }, "The first commit");
    const project = await addProject(gradient.api, "demo", url, "packages.*");
    evaluation = await gradient.api.evaluate(project);
    await vi.waitFor(async () => {
      expect((await gradient.api.evaluation(evaluation)).status).toBe("Building");
      const slow = await findBuild(gradient, evaluation, "slow");
      expect(await gradient.api.log(slow.id)).toBe("slow has begun\n");
    }, MOMENT);

    await federation.relay.kill();
    expect(endedBuilds(common)).not.toContain("slow");
    await startRelay(federation, environment);
    await gradient.api.waitForEnd(evaluation, 120_000);

    const builds = await gradient.api.builds(evaluation);
    // One whose result was lost with the relay is given out again, and its outputs are found.
    const other = builds.filter(({ status }) => status !== "Completed" && status !== "Substituted");
    expect(other.map((build) => `${shortName(build)} ${build.status}`).toSorted()).toEqual([
      "above DependencyFailed",
      "above-too DependencyFailed",
      "broken FailedPermanent",
    ]);
    expect(builds).toHaveLength(42);
    // The build went on under its lease: it was not begun anew.
    expect(endedBuilds(common).filter((name) => name === "slow")).toEqual(["slow"]);
    const slow = await findBuild(gradient, evaluation, "slow");
    expect(await gradient.api.log(slow.id)).toBe("slow has begun\nslow has ended\n");
  }, 180_000);

  test("each build ran where it can: with the system and the feature that only one worker has", async () => {
    expect(endedBuilds(special)).toEqual(["special"]);
    expect(endedBuilds(common)).not.toContain("special");
    const build = await findBuild(gradient, evaluation, "special");
    expect(await gradient.api.log(build.id)).toBe("special is built\n");
  });

  test("stock Nix copies what was built behind the relay, and verifies it", async () => {
    await new CacheClient(gradient, "client").copyAndVerify(await outputOf(gradient, evaluation, "special"));
  });

  test("a relay that is asked to stop lets what runs end", async () => {
    expect(await federation.relay.stop()).toBe(0);
    expect(common.output()).toContain("the session with the server ended");
  });
});

function token(): string {
  return randomBytes(48).toString("base64");
}
