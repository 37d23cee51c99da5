import { equalBytes, utf8 } from "#core/lib/bytes.ts";
import { type ByteStream, collect, streamOf } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { BuildJob, EvaluationJob } from "#core/protocol/server-messages.ts";
import type { BuildResult, EvaluationResult, FailureClass } from "#core/protocol/worker-messages.ts";
import {
  type AttemptLink,
  BatchRefusedError,
  PathUnavailableError,
  type Upload,
  UploadRefusedError,
} from "#worker/link.ts";
import { reportAgain } from "#worker/report-again.ts";
import { PROBE_SYSTEM, type SimulatedDerivation, type SimulatedFlake, type Universe } from "./flake.ts";
import type { Random } from "./random.ts";
import type { SimulatedProcess } from "./simulator.ts";

const NAR_BYTES_MAX = 16 * 1024 * 1024;

export interface ExecutorContext {
  readonly universe: Universe;
  readonly flakeOf: (commit: string) => SimulatedFlake;
  readonly random: Random;
  readonly process: SimulatedProcess;
  /** Store paths that are valid on this machine; they outlive the worker's process. */
  readonly store: Set<StorePath>;
  /** What the machine can run. */
  readonly machine: { readonly architectures: readonly string[]; readonly features: readonly string[] };
  /** How often each derivation was tried, by whomever. */
  readonly tries: Map<StorePath, number>;
  /** Whether this path was lost at any time: then it may be missing. */
  readonly isLost: (path: StorePath) => boolean;
  /** Of those whose success a worker has claimed without uploading it. */
  readonly lies: Set<StorePath>;
  /** Told of what must never happen. */
  readonly violated: (what: string) => void;
  /** Of each attempt the whole log, once it is written. */
  readonly logs: Map<string, string>;
}

/** As a worker builds: inputs, builder, uploads, result. It takes simulated time, and builds nothing. */
export async function simulateBuild(
  context: ExecutorContext,
  job: BuildJob,
  aterm: Uint8Array,
  link: AttemptLink,
): Promise<BuildResult> {
  const { universe, process } = context;
  const derivation = universe.derivations.get(job.drv_path);
  if (!derivation || !equalBytes(derivation.aterm, aterm)) {
    context.violated(`${job.drv_path} came with other bytes than it has`);
    return failed("transient", "not the derivation");
  }
  const { system, features } = derivation;
  const fits = system === PROBE_SYSTEM || context.machine.architectures.includes(system);
  if (!fits || features.some((feature) => !context.machine.features.includes(feature))) {
    context.violated(`${derivation.name} for ${system} ${features.join(" ")} came to a worker that cannot run it`);
  }
  const outputs = Array.from(derivation.outputs, ([name, path]) => ({ name, path }));
  const alreadyValid = outputs.every(({ path }) => context.store.has(path));
  try {
    if (!alreadyValid) await fetchInputs(context, job.inputs, link);
    link.phase("building");
    if (!alreadyValid) {
      const failure = await runBuilder(context, derivation, link);
      if (failure) return failed(failure, `it ended as ${failure}`);
      for (const { path } of outputs) context.store.add(path);
    }
    process.note(`built ${derivation.name} under ${short(link.attemptId)}`);
    const status = alreadyValid ? "already_valid" : "built";
    const result: BuildResult = { kind: "build", status, outputs, failure: null, build_ms: derivation.durationMs };
    const uploads = outputs.map(({ path }) => uploadOf(context, path, "output"));
    if (!lies(context, derivation)) await link.deliver(uploads, result);
    return result;
  } catch (error) {
    if (error instanceof PathUnavailableError) {
      if (!context.isLost(error.path)) {
        context.violated(`${derivation.name} was given out before its input: ${error.message}`);
      }
      return failed("inputs_unavailable", error.message, [error.path]);
    }
    if (error instanceof UploadRefusedError) return failed("transient", error.message);
    throw error;
  }
}

async function fetchInputs(context: ExecutorContext, inputs: readonly StorePath[], link: AttemptLink): Promise<void> {
  const { store, universe } = context;
  const wanted = inputs.filter((path) => !store.has(path));
  for (let path = wanted.pop(); path !== undefined; path = wanted.pop()) {
    if (store.has(path)) continue;
    const fetched = await link.fetchNar(path);
    const nar = await collect(slowly(context, fetched.body), NAR_BYTES_MAX).catch(() => null);
    link.signal.throwIfAborted();
    if (nar === null) {
      // The session ended in the middle of it.
      wanted.push(path);
      continue;
    }
    const object = universe.objects.get(path);
    if (!object || !equalBytes(object.nar, nar)) context.violated(`${path} came with other bytes than it has`);
    store.add(path);
    wanted.push(...fetched.info.references.filter((reference) => !store.has(reference)));
  }
}

/** A store that takes its time holds the sender back by credit alone. */
async function* slowly({ process, random }: ExecutorContext, body: ByteStream): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    yield chunk;
    await process.pause(random.below(400));
  }
}

/** Null for success. */
async function runBuilder(
  context: ExecutorContext,
  derivation: SimulatedDerivation,
  link: AttemptLink,
): Promise<FailureClass | null> {
  const steps = context.random.between(1, 4);
  let log = "";
  for (let i = 0; i < steps; i++) {
    await pauseUnlessEnded(context, derivation.durationMs / steps, link);
    const line = `${derivation.name} step ${i} ${"x".repeat(context.random.below(200))}\n`;
    log += line;
    link.log(utf8(line));
  }
  context.logs.set(link.attemptId, log);
  const count = context.tries.get(derivation.drvPath) ?? 0;
  context.tries.set(derivation.drvPath, count + 1);
  return derivation.ends[Math.min(count, derivation.ends.length - 1)] ?? null;
}

/** Sources are sent one by one; what the server has is not sent again. */
async function uploadSource(context: ExecutorContext, path: StorePath, link: AttemptLink): Promise<void> {
  const present = await link.queryCache([path]);
  if (present.length === 0) await link.pushNar(uploadOf(context, path, "source"));
}

function uploadOf({ universe, process, random }: ExecutorContext, path: StorePath, target: Upload["target"]): Upload {
  const object = universe.objects.get(path);
  if (!object) throw new Error(`${path} is in no store`);
  const { nar, info } = object;
  const half = Math.floor(nar.length / 2);
  async function* open(): AsyncGenerator<Uint8Array> {
    yield* streamOf(nar.subarray(0, half));
    await process.pause(random.below(300));
    yield* streamOf(nar.subarray(half));
  }
  return { target, info, compression: "zstd", open };
}

/** As a worker evaluates: from the attributes down to what is known, and the report bottom-up. */
export async function simulateEvaluation(
  context: ExecutorContext,
  job: EvaluationJob,
  link: AttemptLink,
): Promise<EvaluationResult> {
  const { random, process } = context;
  const flake = context.flakeOf(job.commit);
  const pause = () => pauseUnlessEnded(context, random.between(50, 2_000), link);
  try {
    link.phase("fetching");
    await pause();
    link.phase("fetching", { message: "a commit", author: "somebody" });
    link.phase("evaluating_flake");
    await pause();
    link.phase("evaluating_derivations");
    for (let i = 0; i < flake.warnings; i++) {
      link.message({ level: "warning", text: `warning ${i}`, source: "evaluator", attribute: null });
    }
    await reportAgain(() => report(context, flake, link));
  } catch (error) {
    if (!(error instanceof BatchRefusedError || error instanceof UploadRefusedError)) throw error;
    return evaluationEnd("permanent", error.message);
  }
  await pause();
  process.note(`evaluated ${job.commit.slice(0, 8)} under ${short(link.attemptId)}`);
  return flake.broken ? evaluationEnd("permanent", "the flake is broken") : evaluationEnd(null, "");
}

async function report(context: ExecutorContext, flake: SimulatedFlake, link: AttemptLink): Promise<void> {
  const { universe, random } = context;
  const { wanted, pruned } = await walk(context, flake, link);
  // The universe lists dependencies first.
  const nodes = [...universe.derivations.values()].filter(({ drvPath }) => wanted.has(drvPath));
  const points = flake.attributes.map(({ name, drvPath }) => ({ attribute: ["packages", name], drvPath }));
  for (let at = 0; at < nodes.length; ) {
    const batch = nodes.slice(at, at + random.between(1, 12));
    at += batch.length;
    for (const { drvPath, source } of batch) {
      if (source && !pruned.has(drvPath)) await uploadSource(context, source, link);
    }
    const own = new Set(batch.map(({ drvPath }) => drvPath));
    await link.sendBatch({
      nodes: batch.map(({ drvPath, aterm }) => ({ drvPath, aterm, pruned: pruned.has(drvPath) })),
      entryPoints: points.filter(({ drvPath }) => own.has(drvPath)),
    });
    await pauseUnlessEnded(context, random.below(500), link);
  }
}

async function walk({ universe }: ExecutorContext, { attributes }: SimulatedFlake, link: AttemptLink) {
  const wanted = new Map<StorePath, Set<string>>();
  const pruned = new Set<StorePath>();
  const want = (drvPath: StorePath, names: Iterable<string>) => {
    const before = wanted.get(drvPath) ?? new Set();
    wanted.set(drvPath, new Set([...before, ...names]));
  };
  for (const { drvPath } of attributes) want(drvPath, universe.derivations.get(drvPath)?.outputs.keys() ?? []);
  // From the top down: all that is wanted of a derivation is known when it is asked for.
  for (const { drvPath, outputs, needs } of [...universe.derivations.values()].toReversed()) {
    const names = wanted.get(drvPath);
    if (!names) continue;
    const paths = [...names].map((name) => outputs.get(name) as StorePath);
    const [known] = await link.queryDerivations([{ drvPath, outputs: paths }]);
    if (known) pruned.add(drvPath);
    else for (const [below, needed] of needs) want(below, needed);
  }
  return { wanted, pruned };
}

async function pauseUnlessEnded({ process }: ExecutorContext, ms: number, link: AttemptLink): Promise<void> {
  link.signal.throwIfAborted();
  await new Promise<void>((resolve) => {
    const finish = () => {
      cancel();
      link.signal.removeEventListener("abort", finish);
      resolve();
    };
    const cancel = process.clock.schedule(ms, finish);
    link.signal.addEventListener("abort", finish, { once: true });
  });
  link.signal.throwIfAborted();
}

/** Once for a derivation that never fails: a second false claim might use up its tries. */
function lies({ random, lies: told }: ExecutorContext, { drvPath, ends, system }: SimulatedDerivation): boolean {
  const mayLie = ends.length === 1 && ends[0] === null && system !== PROBE_SYSTEM && !told.has(drvPath);
  if (!mayLie || !random.chance(0.05)) return false;
  told.add(drvPath);
  return true;
}

function failed(failure: FailureClass, message: string, missing: StorePath[] = []): BuildResult {
  return {
    kind: "build",
    status: "failed",
    outputs: [],
    failure: { class: failure, message, missing },
    build_ms: 1,
  };
}

function evaluationEnd(failure: FailureClass | null, message: string): EvaluationResult {
  if (failure === null) return { kind: "evaluation", status: "completed", failure: null };
  return { kind: "evaluation", status: "failed", failure: { class: failure, message } };
}

export function short(id: string): string {
  return id.slice(-6);
}
