import { randomBytes } from "node:crypto";
import { CACHE, type Gradient, withGradient } from "#test/e2e/gradient.ts";
import { nixOutput } from "#test/support/nix.ts";
import type { Figure, PartResult } from "./figures.ts";
import { makeFlake, NAME_PREFIX, SYSTEM } from "./flakes.ts";
import { timed } from "./measure.ts";
import { forgetPeak, peakMemoryBytes } from "./processes.ts";
import { makeRepository, type Repository } from "./repository.ts";

const LINKS = 100;
const LOG_BYTES = 1_000_000_000;
const MEGA = 1_000_000;
const EVALUATION_MS_MAX = 1_800_000;
const MEMORY = { valueMax: 250 } as const;

const NOTES = [
  `\`long\`: a chain is ${LINKS} derivations each of which needs the one before; the figure is the time that ` +
    "Gradient takes for a link beyond what `nix build` does, evaluation, upload and signature of each link included.",
  "`long`: the log is lines of 100 bytes, with the worker's limits on logs raised to twice its size. The server " +
    "keeps the first 512 MiB of it. Memory is `VmHWM`, as for `memory`.",
];

/** What takes long by its nature: a chain of builds, and a log without end. */
export async function benchLong(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  await using gradient = await withGradient({
    ...settings,
    GRADIENT_LOG_BURST_BYTES_PER_MIN: String(2 * LOG_BYTES),
    GRADIENT_LOG_SUSTAINED_BYTES_PER_HOUR: String(2 * LOG_BYTES),
  });
  const repository = await makeRepository(gradient, "long", makeFlake({ count: 2, work: "nothing", layers: 1 }));
  await evaluate(gradient, repository);
  return { figures: [await chain(gradient, repository), ...(await loud(gradient, repository))], notes: NOTES };
}

async function chain(gradient: Gradient, repository: Repository): Promise<Figure> {
  const shape = { count: LINKS, work: "nothing", layers: LINKS } as const;
  await repository.commit(makeFlake(shape));
  const ours = await timed(() => evaluate(gradient, repository));
  await repository.commit(makeFlake(shape));
  const theirs = await timed(() => buildPlainly(gradient, repository));
  const what = `overhead of a link in a chain of ${LINKS} builds`;
  const overhead = (ours - theirs) / LINKS;
  return { part: "long", what, unit: "ms", ours: overhead, other: null, aim: { valueMax: 50 }, samples: 1 };
}

async function loud(gradient: Gradient, repository: Repository): Promise<Figure[]> {
  const flake = () => {
    const name = `${NAME_PREFIX}${randomBytes(6).toString("hex")}`;
    const script = `yes ${"x".repeat(99)} | head -c ${LOG_BYTES}; echo ${name} > $out`;
    const made = `derivation { name = "${name}"; system = "${SYSTEM}"; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
      args = [ "-c" "${script}" ]; }`;
    return `{ outputs = { self }: { packages.${SYSTEM}.loud = ${made}; }; }\n`;
  };
  const processes = { server: gradient.server.pid, worker: gradient.worker.pid };
  for (const pid of Object.values(processes)) await forgetPeak(pid);
  await repository.commit(flake());
  const ours = await timed(() => evaluate(gradient, repository));
  const peaks: Figure[] = [];
  for (const [process, pid] of Object.entries(processes)) {
    const what = `${process}: a build that logs 1 GB`;
    const megabytes = (await peakMemoryBytes(pid)) / MEGA;
    peaks.push({ part: "long", what, unit: "MB", ours: megabytes, other: null, aim: MEMORY, samples: 1 });
  }
  await repository.commit(flake());
  const theirs = await timed(() => buildPlainly(gradient, repository));
  const time = {
    part: "long",
    what: "a build that logs 1 GB",
    unit: "s",
    aim: { none: "none set" },
    samples: 1,
  } as const;
  return [...peaks, { ...time, ours: ours / 1000, other: { name: "nix build", value: theirs / 1000 } }];
}

async function evaluate({ api }: Gradient, { project }: Repository): Promise<void> {
  const { status } = await api.waitForEnd(await api.evaluate(project), EVALUATION_MS_MAX);
  if (status !== "Completed") throw new Error(`the evaluation for ${CACHE} ended ${status}`);
}

async function buildPlainly({ daemon }: Gradient, { url }: Repository): Promise<void> {
  const all = `builtins.attrValues (builtins.getFlake "${url}").packages.${SYSTEM}`;
  const command = ["nix", "build", "--no-link", "--impure", "--expr", all] as const;
  await nixOutput([...command], daemon.env);
}
