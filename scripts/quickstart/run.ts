import { CACHE, openAccount, openCache, openOrganization } from "./account.ts";
import { Api } from "./api.ts";
import { DataFolder } from "./data-folder.ts";
import { cleanEnvironment } from "./environment.ts";
import { followEvaluation, isSuccess } from "./follow.ts";
import { openNixStore } from "./nix-store.ts";
import type { QuickstartOptions } from "./options.ts";
import { count, type Output } from "./output.ts";
import { QuickstartError } from "./problem.ts";
import { openProject, startEvaluation } from "./project.ts";
import { findSource } from "./repository.ts";
import { findTools } from "./requirements.ts";
import { requireFreePort, startServer } from "./server.ts";
import { substitute } from "./substitution.ts";
import { printSummary, renderJson } from "./summary.ts";
import { startWorker } from "./worker.ts";

export interface RunOptions {
  readonly options: QuickstartOptions;
  /** The clone. */
  readonly root: string;
  readonly output: Output;
  /** Prints the line for programs. */
  readonly printJson: (line: string) => void;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}

/**
 * The whole run. Resolves with whether everything was built, after all that was started has been stopped: with `once`
 * after the summary, else when the signal comes. Throws `QuickstartError`; anything when the signal came earlier.
 */
export async function run({ options, root, output, printJson, signal }: RunOptions): Promise<boolean> {
  const environment = cleanEnvironment();
  await using started = new AsyncDisposableStack();
  const data = started.use(await DataFolder.open(options.dataDir));
  await requireFreePort(options.port);
  const tools = await findTools(output, { environment, yes: options.yes, signal });
  const source = await findSource(options, data, root, { environment, signal });
  output.line("tools", `nix ${tools.nixVersion}, git ${tools.gitVersion}, node ${process.versions.node}`);

  const withMachineSettings = options.flake !== null;
  const store = started.use(await openNixStore(data, { tools, environment, withMachineSettings, signal }));
  output.line("store", store.description);

  const server = await startServer(data, {
    root,
    port: options.port,
    repositoryUrl: source.url,
    environment,
    signal,
  });
  started.use(server.service);
  output.line("server", `${server.url}, with a PostgreSQL of its own`);

  const { login, apiKey, api } = await openAccount(new Api(server.url, signal), data);
  await openOrganization(api);
  const publicKey = await openCache(api);
  const cache = { url: `${server.url}/cache/${CACHE}`, publicKey };

  const worker = await startWorker(api, data, { root, serverUrl: server.url, store, tools, environment, signal });
  started.use(worker.service);
  const { architectures, max_concurrent_builds } = worker.live;
  output.line("worker", `${architectures[0]}, ${count(max_concurrent_builds, "build")} at a time`);

  const lost = Promise.race([
    server.service.ended.then((how) => server.service.failure(how)),
    worker.service.ended.then((how) => worker.service.failure(how)),
    store.ended.then((how) => new QuickstartError(`our nix-daemon ${how}: see ${data.at("logs", "nix-daemon.log")}`)),
  ]);
  const unlessLost = <T>(work: Promise<T>): Promise<T> =>
    Promise.race([work, lost.then((error) => Promise.reject(signal.aborted ? signal.reason : error))]);

  const wildcard = source.wildcardFor(architectures);
  await openProject(api, source, wildcard);
  const { evaluationId, abandoned } = await startEvaluation(api, source, signal);
  output.line("project", `${source.description}, attributes ${wildcard}${source.hint ? ` (${source.hint})` : ""}`);
  if (abandoned) output.line("begun anew", "the last run was ended in the middle; what it had built stays");
  const end = await unlessLost(followEvaluation(api, evaluationId, output, { systems: architectures, signal }));

  const proof = { cacheUrl: cache.url, publicKey, tools, store, environment, signal };
  const substituted = await unlessLost(substitute(api, data, end.builds, proof));
  const summary = { url: server.url, ...end, cache, login, apiKey, dataDir: data.path, substituted };
  printSummary(summary, output);
  if (options.json) printJson(renderJson(summary));
  if (!options.once) {
    output.text("Running until Ctrl-C.");
    await unlessLost(aborted(signal));
  }
  return isSuccess(end);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
