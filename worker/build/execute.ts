import type { BasicDerivation, BuildResult as DaemonBuildResult } from "#core/nix/daemon/build.ts";
import type { DaemonEvent } from "#core/nix/daemon/events.ts";
import { type Derivation, DerivationParseError, parseDerivation, verifyDerivationPath } from "#core/nix/derivation.ts";
import { inputAddressedPaths } from "#core/nix/derivation-hash.ts";
import { parseStorePath, type StorePath, storePathName } from "#core/nix/store-path.ts";
import type { BuildMetrics, BuildProduct, BuildResult } from "#core/protocol/worker-messages.ts";
import type { DaemonConnection } from "../daemon/connection.ts";
import { AttemptEndedError, type AttemptLink } from "../link.ts";
import { BuildLog } from "./build-log.ts";
import { BuildMeter } from "./build-meter.ts";
import { failureOfError, failureOfResult, isForeseen } from "./classify.ts";
import type { BuildEnvironment } from "./environment.ts";
import { BuildFailure, failedResult } from "./failure.ts";
import { ensureInputs } from "./inputs.ts";
import { readProducts } from "./products.ts";
import { type BuildTimeLimits, builderOptions, runBuilder } from "./run-builder.ts";
import { uploadsOf } from "./upload.ts";

export interface BuildRequest extends BuildTimeLimits {
  readonly drvPath: StorePath;
  /** The bytes of the `.drv`. */
  readonly aterm: Uint8Array;
  /** What must be in the store: the input sources, and the needed outputs of the input derivations. */
  readonly inputs: readonly StorePath[];
}

type Outputs = BuildResult["outputs"];

/**
 * Builds one derivation and uploads its outputs. Whatever goes wrong is a result with a failure; only
 * `AttemptEndedError` is thrown, when the link's signal ends the work: the builder is stopped then.
 *
 * In this order: the derivation is proven to be the one that its path names; inputs are brought into the store and held
 * there; when there is a place for it, the daemon builds; the outputs and the result are handed over together, and
 * recorded by the server.
 */
export async function executeBuild(
  job: BuildRequest,
  link: AttemptLink,
  environment: BuildEnvironment,
): Promise<BuildResult> {
  const run = new BuildRun(job, link, environment);
  try {
    return await run.execute();
  } catch (error) {
    if (error instanceof AttemptEndedError) throw error;
    if (link.signal.aborted) throw endOf(link.signal);
    if (!isForeseen(error)) {
      environment.log.error("a build failed for a reason that the worker does not know", {
        attempt: link.attemptId,
        derivation: job.drvPath,
        error,
      });
    }
    return failedResult(failureOfError(error), run.buildMs, run.metrics);
  } finally {
    await environment.roots.release(link.attemptId);
  }
}

class BuildRun {
  readonly #job: BuildRequest;
  readonly #link: AttemptLink;
  readonly #environment: BuildEnvironment;
  readonly #log: BuildLog;
  #unlock = () => {};
  buildMs = 0;
  metrics: BuildMetrics | null = null;

  constructor(job: BuildRequest, link: AttemptLink, environment: BuildEnvironment) {
    this.#job = job;
    this.#link = link;
    this.#environment = environment;
    const { clock, logLimits } = environment;
    this.#log = new BuildLog({ write: (bytes) => link.log(bytes), clock, limits: logLimits });
  }

  async execute(): Promise<BuildResult> {
    const { pool, cores, signer } = this.#environment;
    const { signal } = this.#link;
    const derivation = await this.#proven();
    const known = [...derivation.outputs.values()].flatMap(({ path }) => parseStorePath(path) ?? []);
    try {
      const settings = builderOptions(this.#job, cores);
      const { result, uploads } = await pool.use(
        async (connection) => {
          const { status, outputs } = await this.#build(connection, derivation, known);
          this.#unlock();
          this.#link.builderEnded();
          const products = await this.#products(outputs);
          const result: BuildResult = {
            ...{ kind: "build", status, outputs, failure: null, build_ms: this.buildMs },
            ...(this.metrics && { metrics: this.metrics }),
            ...(products.length > 0 && { products }),
          };
          const made = await uploadsOf(connection, result, this.#link, { pool, settings, signer });
          if (!made.needsConnection) return { result, uploads: made.uploads };
          await this.#link.deliver(made.uploads, result);
          return { result, uploads: null };
        },
        { signal, settings },
      );
      if (uploads) await this.#link.deliver(uploads, result);
      return result;
    } finally {
      this.#unlock();
    }
  }

  /** What one that waits for a place holds would be waited for by one that has the place. */
  async #lock(known: readonly StorePath[]): Promise<void> {
    // Outputs that are addressed by their content are locked by the derivation.
    const locked = known.length > 0 ? known : [this.#job.drvPath];
    this.#unlock = await this.#environment.outputLocks.acquire(locked, this.#link.signal, () =>
      this.#log.note("waiting: this worker builds the same output for another attempt"),
    );
  }

  async #proven(): Promise<Derivation> {
    const { drvPath, aterm } = this.#job;
    try {
      const derivation = parseDerivation(aterm);
      refuseDerivationOutputs(derivation);
      if (await verifyDerivationPath(drvPath, aterm, derivation)) {
        await refuseOtherPlaces(drvPath, derivation);
        return derivation;
      }
    } catch (error) {
      if (!(error instanceof DerivationParseError)) throw error;
      throw new BuildFailure("permanent", `${drvPath} cannot be built: ${error.message}`, { cause: error });
    }
    throw new BuildFailure("transient", `the derivation that the server sent is not ${drvPath}: its bytes differ`);
  }

  async #build(
    connection: DaemonConnection,
    derivation: Derivation,
    known: readonly StorePath[],
  ): Promise<{ readonly status: "built" | "already_valid"; readonly outputs: Outputs }> {
    const { drvPath, timeoutMs, maxSilentMs } = this.#job;
    const { roots, clock } = this.#environment;
    const inputs = [...new Set([...this.#job.inputs, ...derivation.inputSources])];
    const complete = known.length === derivation.outputs.size;
    const outputs = complete ? known : [];
    const settings = builderOptions(this.#job, this.#environment.cores);
    const present = await ensureInputs(connection, { inputs, outputs }, this.#link, { ...this.#environment, settings });
    await roots.hold(connection, this.#link.attemptId, present ? known : [...known, ...inputs]);

    await this.#link.builderPlace();
    await this.#lock(known);
    this.#link.phase("building");
    const basic: BasicDerivation = { ...derivation, inputSources: inputs };
    const meter = new BuildMeter(connection, { ...this.#environment.metering, clock });
    const startedAt = clock.monotonic();
    try {
      const job = { drvPath, derivation: basic, timeoutMs, maxSilentMs };
      const onEvent = (event: DaemonEvent) => meter.see(event);
      const context = { log: this.#log, clock, signal: this.#link.signal, onEvent };
      const { result, circumstances } = await runBuilder(connection, job, context);
      if (result.status !== "already-valid") this.metrics = meter.end(result);
      if (!result.success) throw failureOfResult(result, circumstances);
      const status = result.status === "built" ? "built" : "already_valid";
      const made = outputsOf(derivation, result);
      // Those that nobody could hold before. One may be the same as an input.
      const fresh = made.map(({ path }) => path).filter((path) => !known.includes(path) && !inputs.includes(path));
      if (fresh.length > 0) await this.#hold(connection, fresh);
      return { status, outputs: made };
    } finally {
      meter.stop();
      this.#log.end();
      this.buildMs = Math.round(clock.monotonic() - startedAt);
    }
  }

  async #hold(connection: DaemonConnection, paths: readonly StorePath[]): Promise<void> {
    for (const path of paths) await connection.addTempRoot(path);
    await this.#environment.roots.hold(connection, this.#link.attemptId, paths);
  }

  async #products(outputs: Outputs): Promise<BuildProduct[]> {
    const { storeRoot } = this.#environment;
    const { signal } = this.#link;
    return await readProducts(outputs, { storeRoot, note: (text) => this.#log.note(text), signal });
  }
}

/**
 * Nix 2.8 reads such an output as a derivation, links followed: one that leads to a device without an end takes all
 * memory of the machine. Later versions refuse the name.
 */
function refuseDerivationOutputs({ outputs }: Derivation): void {
  const name = [...outputs.keys()].find((each) => each.endsWith(".drv"));
  if (name === undefined) return;
  throw new BuildFailure("permanent", `its output ${name} is called like a derivation: give it another name`);
}

/**
 * Where nothing below a derivation decides where its outputs belong, as when the server has put paths in the place of
 * what was below, it is plain to see. What else states wrong places Nix does not let into its store.
 */
async function refuseOtherPlaces(drvPath: StorePath, derivation: Derivation): Promise<void> {
  const { outputs, inputDerivations } = derivation;
  const stated = [...outputs].filter(([, { path, hash }]) => path !== "" && hash === "");
  if (inputDerivations.size > 0 || stated.length === 0) return;
  const places = await inputAddressedPaths(derivation, storePathName(drvPath).replace(/\.drv$/, ""));
  const wrong = stated.find(([name, { path }]) => places.get(name) !== path);
  if (wrong === undefined) return;
  const [name, { path }] = wrong;
  throw new BuildFailure("permanent", `its output ${name} belongs to ${places.get(name)}, and not to ${path}`);
}

/** Where the outputs are: by the derivation, or by the daemon where the content decides. */
function outputsOf(derivation: Derivation, result: DaemonBuildResult): Outputs {
  return Array.from(derivation.outputs, ([name, { path }]) => {
    const place = parseStorePath(path) ?? result.builtOutputs.find(({ outputName }) => outputName === name)?.path;
    if (!place) throw new BuildFailure("transient", `the nix-daemon does not say where the output ${name} is`);
    return { name, path: place };
  });
}

function endOf(signal: AbortSignal): AttemptEndedError {
  const reason = signal.reason instanceof Error ? signal.reason.message : String(signal.reason);
  return new AttemptEndedError(reason, { cause: signal.reason });
}
