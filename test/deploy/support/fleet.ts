import { join } from "node:path";
import { addProject, CACHE, type Gradient, ORGANIZATION, publicKey, withGradient } from "../../e2e/gradient.ts";
import { type Host, withHost } from "./host.ts";
import { type Network, withNetwork } from "./network.ts";
import { commitSystems, type SystemsCommit } from "./system-flake.ts";

export const PROJECT = `${ORGANIZATION}/fleet`;

/** The systems of one commit, built and in the cache. */
export interface Published {
  readonly evaluation: string;
  /** Store paths by the names of the hosts; only those that were built. */
  readonly systems: Readonly<Record<string, string>>;
}

/** An installation whose project builds the systems of some hosts, which reach it over a network that can fail. */
export interface Fleet extends AsyncDisposable {
  readonly gradient: Gradient;
  readonly network: Network;
  readonly repository: string;
  /** May read the project and report deployments, and nothing else. */
  readonly apiKey: string;
  /** Commits systems and waits until they are built. */
  publish(commit: SystemsCommit): Promise<Published>;
  /** Evaluates what the branch, or HEAD, of the repository holds now, and waits for the end. */
  evaluate(branch?: string): Promise<Published>;
  /** Lets a build that failed in an evaluation run again, and waits for the end. */
  restart(evaluation: string): Promise<void>;
  /** A host without a system; it ends with the fleet. */
  host(name: string, apiKey?: string): Promise<Host>;
  /** A host that runs this system. */
  hostWith(name: string, path: string): Promise<Host>;
  key(name: string, permissions: readonly string[]): Promise<string>;
  cache(): Promise<{ readonly cache: string; readonly publicKey: string }>;
}

interface EntryPoint {
  readonly eval: string;
  readonly build_id: string;
  readonly build_status: string;
}

const AGENT_PERMISSIONS = ["viewOrg", "reportDeployments"];
const BUILT = ["Completed", "Substituted"];
const HOST_ATTRIBUTE = /^nixosConfigurations\.([^.]+)\./;

export interface FleetOptions {
  /** For the server and the worker. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Hosts reach the server without the network that can fail. */
  readonly direct?: boolean;
}

export async function withFleet(
  first: SystemsCommit,
  { settings = {}, direct = false }: FleetOptions = {},
): Promise<Fleet> {
  await using started = new AsyncDisposableStack();
  let owner: AsyncDisposableStack = started;
  let target = "";
  const network = started.use(await withNetwork(() => target));
  const gradient = started.use(
    await withGradient(direct ? settings : { ...settings, GRADIENT_SERVE_URL: network.url }),
  );
  target = gradient.url;
  const { api } = gradient;
  const repository = join(gradient.folder, "repository");
  await addProject(
    api,
    "fleet",
    await commitSystems(repository, first),
    "nixosConfigurations.*.config.system.build.toplevel",
  );
  const key = (name: string, permissions: readonly string[]): Promise<string> =>
    api.request("POST", "/user/keys", { name, permissions });
  const apiKey = await key("hosts", AGENT_PERMISSIONS);
  const evaluate = async (branch?: string): Promise<Published> => {
    await api.request("POST", `/projects/${PROJECT}/evaluate`, branch === undefined ? {} : { branch });
    const evaluation = await newestEvaluation(gradient);
    await api.waitForEnd(evaluation);
    return { evaluation, systems: await systemsOf(gradient, evaluation) };
  };
  const restart = async (evaluation: string): Promise<void> => {
    const failed = (await api.builds(evaluation)).find(({ status }) => status === "FailedPermanent");
    if (!failed) throw new Error("nothing failed in it");
    await api.request("POST", `/builds/${failed.id}`, { method: "restart" });
    await api.waitForEnd(await newestEvaluation(gradient));
  };
  const host = async (name: string, hostKey = apiKey): Promise<Host> =>
    owner.use(await withHost(name, { server: direct ? gradient.url : network.url, project: PROJECT, apiKey: hostKey }));
  const cache = async () => ({ cache: `${gradient.url}/cache/${CACHE}`, publicKey: await publicKey(api) });
  const fleet: Fleet = {
    gradient,
    network,
    repository,
    apiKey,
    key,
    cache,
    evaluate,
    restart,
    host,
    async publish(commit) {
      await commitSystems(repository, commit);
      return await evaluate();
    },
    async hostWith(name, path) {
      const made = await host(name);
      await made.install(path, await cache());
      return made;
    },
    [Symbol.asyncDispose]: () => owner.disposeAsync(),
  };
  owner = started.move();
  return fleet;
}

async function newestEvaluation({ api }: Gradient): Promise<string> {
  const [newest] = await api.request<{ id: string }[]>("GET", `/projects/${PROJECT}/evaluations`);
  if (!newest) throw new Error("there is no evaluation");
  return newest.id;
}

/** What `GET /projects/{organization}/{project}/entry-points` says of an evaluation's systems. */
async function systemsOf({ api }: Gradient, evaluation: string): Promise<Record<string, string>> {
  const points = await api.request<EntryPoint[]>(
    "GET",
    `/projects/${PROJECT}/entry-points?evaluation_id=${evaluation}`,
  );
  const systems: Record<string, string> = {};
  for (const point of points) {
    const name = HOST_ATTRIBUTE.exec(point.eval)?.[1];
    if (name === undefined || !BUILT.includes(point.build_status)) continue;
    const { output } = await api.request<{ output: { out: string } }>("GET", `/builds/${point.build_id}`);
    systems[name] = `/nix/store/${output.out}`;
  }
  return systems;
}
