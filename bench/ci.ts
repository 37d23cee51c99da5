import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CACHE, type Gradient, withGradient } from "#test/e2e/gradient.ts";
import { nixOutput } from "#test/support/nix.ts";
import type { Aim, Figure, PartResult } from "./figures.ts";
import { type FlakeShape, makeFlake, SLEEP_SECONDS, SYSTEM } from "./flakes.ts";
import { startUnsandboxedWorker, whyNoMachineStore } from "./machine-store.ts";
import { interleave, timed } from "./measure.ts";
import { makeRepository, type Repository } from "./repository.ts";

const BUILDS_MAX = 2;
const ROUNDS = 3;
/** Each question costs the server some milliseconds: often at first, where an evaluation may be short, then rarely. */
const POLL_MS_FIRST = 20;
const POLL_MS_LATER = 60;
const POLLED_OFTEN_MS = 400;
const EVALUATION_MS_MAX = 300_000;

const TRIVIAL: Aim = { ratioMax: 1.5 };
const TRIVIAL_UNSANDBOXED: Aim = { ratioMax: 2 };
const WORKING: Aim = { ratioMax: 1.05 };
const NOTHING_TO_BUILD: Aim = { moreMax: 150 };

interface Case {
  readonly what: string;
  readonly shape: FlakeShape;
  readonly aim: Aim;
}

const SANDBOXED: readonly Case[] = [
  { what: "200 trivial derivations, sandboxed", shape: { count: 200, work: "nothing", layers: 1 }, aim: TRIVIAL },
  {
    what: "200 trivial derivations in 10 layers, sandboxed",
    shape: { count: 200, work: "nothing", layers: 10 },
    aim: TRIVIAL,
  },
  {
    what: `60 derivations of ${SLEEP_SECONDS} s, sandboxed`,
    shape: { count: 60, work: "sleep", layers: 1 },
    aim: WORKING,
  },
];

const UNSANDBOXED: Case = {
  what: "200 trivial derivations, not sandboxed",
  shape: { count: 200, work: "nothing", layers: 1 },
  aim: TRIVIAL_UNSANDBOXED,
};

const NOTES = [
  `\`ci\`: both sides use the same nix-daemon and store, ${BUILDS_MAX} builds at a time, fresh derivation names each ` +
    "round. Gradient: from the request for an evaluation by the API until it has ended and every output's narinfo is " +
    "served (fetch, evaluation, builds, upload, signature). Instead: `nix build` of the same packages in one " +
    "evaluation (`--expr`; naming 200 attributes of the flake takes plain Nix about three times as long), then " +
    "`nix copy --to 'file://…?compression=zstd'` of the outputs.",
  "`ci`: sandboxed builds go into a store of its own folder; such a store is always sandboxed, so the unsandboxed " +
    "ones go into the machine's store, " +
    "through a private daemon with `sandbox = false`. Builders run as the daemon's user.",
  "`ci`: the second evaluation finds everything built; instead, `nix eval` of all derivation paths without its cache.",
];

/** Whole CI runs beside `nix build` and `nix copy`. `settings` go into the environments of server and worker. */
export async function benchCi(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  await using gradient = await withGradient({ ...settings, GRADIENT_MAX_CONCURRENT_BUILDS: String(BUILDS_MAX) });
  const repository = await makeRepository(gradient, "measured", makeFlake({ count: 2, work: "nothing", layers: 1 }));
  const env = gradient.daemon.env;
  // What is loaded or made at the first use is no part of any figure.
  await runGradient(gradient, repository);

  const figures: Figure[] = [];
  for (const each of SANDBOXED) figures.push(await measure(each, { gradient, repository, env }));
  figures.push(await measureAgain({ gradient, repository, env }));
  const reason = await whyNoMachineStore();
  if (reason) return { figures, notes: [...NOTES, `\`ci\`: unsandboxed builds were not measured: ${reason}.`] };

  await using unsandboxed = await startUnsandboxedWorker(gradient, BUILDS_MAX);
  await repository.commit(makeFlake({ count: 2, work: "nothing", layers: 1 }));
  await runGradient(gradient, repository);
  figures.push(await measure(UNSANDBOXED, { gradient, repository, env: unsandboxed.env }));
  return { figures, notes: NOTES };
}

interface Subject {
  readonly gradient: Gradient;
  readonly repository: Repository;
  /** Of plain Nix. */
  readonly env: Readonly<Record<string, string>>;
}

async function measure({ what, shape, aim }: Case, subject: Subject): Promise<Figure> {
  const { gradient, repository, env } = subject;
  const values = await interleave(ROUNDS, {
    ours: async () => {
      await repository.commit(makeFlake(shape));
      const ms = await timed(() => runGradient(gradient, repository));
      await assertServed(subject, shape.count);
      return ms;
    },
    plain: async () => {
      await repository.commit(makeFlake(shape));
      const cache = join(gradient.folder, "plain-cache");
      const ms = await timed(() => runPlain(repository, { cache, env, count: shape.count }));
      await rm(cache, { recursive: true });
      return ms;
    },
  });
  const other = { name: "nix build, nix copy", value: values.plain };
  return { part: "ci", what, unit: "ms", ours: values.ours, other, aim, samples: ROUNDS };
}

/** Nothing is left to build: what does an evaluation cost by itself? */
async function measureAgain({ gradient, repository, env }: Subject): Promise<Figure> {
  await repository.commit(makeFlake({ count: 200, work: "nothing", layers: 1 }));
  await runGradient(gradient, repository);
  const apply = "builtins.mapAttrs (name: package: package.drvPath)";
  const attribute = `${repository.url}#packages.${SYSTEM}`;
  const command = ["nix", "eval", "--json", attribute, "--apply", apply, "--option", "eval-cache", "false"] as const;
  const values = await interleave(ROUNDS, {
    ours: () => timed(() => runGradient(gradient, repository)),
    plain: () => timed(() => nixOutput(command, env)),
  });
  const what = "second evaluation of 200, nothing to build";
  const other = { name: "nix eval", value: values.plain };
  return { part: "ci", what, unit: "ms", ours: values.ours, other, aim: NOTHING_TO_BUILD, samples: ROUNDS };
}

/** From the request to the end of the evaluation; throws unless everything succeeded. */
async function runGradient({ api }: Gradient, { project }: Repository): Promise<void> {
  const id = await api.evaluate(project);
  const startedAt = performance.now();
  for (;;) {
    const { status } = await api.evaluation(id);
    if (status === "Completed") return;
    if (status === "Failed" || status === "Aborted") {
      throw new Error(`the measured evaluation ended ${status}: ${JSON.stringify(await api.messages(id))}`);
    }
    const elapsedMs = performance.now() - startedAt;
    if (elapsedMs > EVALUATION_MS_MAX) throw new Error(`the measured evaluation is still ${status}`);
    await sleep(elapsedMs < POLLED_OFTEN_MS ? POLL_MS_FIRST : POLL_MS_LATER);
  }
}

/** An evaluation that ended before its outputs were offered would have been measured wrongly. */
async function assertServed({ gradient, repository, env }: Subject, count: number): Promise<void> {
  const outputs = Object.values(await repository.outputs(env));
  if (outputs.length !== count) throw new Error(`${outputs.length} outputs instead of ${count}`);
  for (const path of outputs) {
    const hash = path.slice("/nix/store/".length).split("-", 1)[0];
    const { status } = await fetch(`${gradient.url}/cache/${CACHE}/${hash}.narinfo`, { method: "HEAD" });
    if (status !== 200) throw new Error(`the evaluation has ended, but ${path} is answered ${status}`);
  }
}

async function runPlain(
  repository: Repository,
  { cache, env, count }: { readonly cache: string; readonly env: Subject["env"]; readonly count: number },
): Promise<void> {
  const expression = `(builtins.getFlake "${repository.url}").packages.${SYSTEM}`;
  const json = await nixOutput(["nix", "build", "--no-link", "--json", "--impure", "--expr", expression], env);
  const outputs = (JSON.parse(json) as { outputs: { out: string } }[]).map(({ outputs: { out } }) => out);
  if (outputs.length !== count) throw new Error(`nix build made ${outputs.length} outputs instead of ${count}`);
  await nixOutput(["nix", "copy", "--to", `file://${cache}?compression=zstd`, ...outputs], env);
}
