import type { Aim, Figure, PartResult } from "./figures.ts";
import { percentile } from "./scale/latency.ts";
import { runScale, type ScaleResult, SLOTS, WORKERS } from "./scale/run.ts";

const SIZES = [1_000, 10_000, 100_000];
const MEGA = 1_000_000;
const AIMS = {
  ingestSeconds: { valueMax: 30 },
  buildsASecond: { valueMin: 1_500 },
  delayMs: { valueMax: 100 },
  serverMegabytes: { valueMax: 250 },
  growth: { ratioMax: 1.5 },
} as const satisfies Record<string, Aim>;
const NO_AIM: Aim = { none: "none set" };

const NOTES = [
  "`scale`: a made-up graph with 5 edges a derivation, in 40 layers; two fifths of the edges end at some tools, of " +
    "which one carries a third of all. An evaluating worker reports it in batches of 500 derivations (ingest: from " +
    `its connection to the acknowledged end of the evaluation). Then ${WORKERS} workers of ${SLOTS} places each take ` +
    "every build and end it at once (from the first assignment to the last acknowledged result). The hub runs in one " +
    "process, all workers in another, each with its own session code and protocol connection over one shared stream; " +
    "PostgreSQL is the embedded one with its usual settings, on disk.",
  "`scale`: without uploads the outputs are in the cache before the builds begin; with uploads each worker sends a NAR " +
    "of some hundred bytes for every output, which the server stores on disk, checks, signs and offers.",
  "`scale`: the delay is that from a build being ready and any place being free to its arrival at a worker; memory is " +
    "the server's peak (`VmHWM`) over ingest and builds; growth compares the CPU time that one derivation costs all " +
    "processes at 100,000 with that at 1,000.",
];

/** How the scheduler's cost grows with the graph. */
export async function benchScale(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  const figures: Figure[] = [];
  for (const uploads of [false, true]) {
    const results: ScaleResult[] = [];
    for (const nodes of SIZES) results.push(await runScale({ nodes, uploads, environment: settings }));
    for (const result of results) figures.push(...figuresOf(result, uploads));
    figures.push(growth(results, uploads));
  }
  return { figures, notes: NOTES };
}

function figuresOf({ nodes, ingest, drain, delays }: ScaleResult, uploads: boolean): Figure[] {
  const of = `of ${nodes.toLocaleString("en-US")}`;
  const how = uploads ? "with uploads" : "without uploads";
  const large = nodes === SIZES.at(-1);
  const judged = (aim: Aim): Aim => (large ? aim : NO_AIM);
  if (!drain) throw new Error("nothing was built");
  const peak = Math.max(ingest.serverPeakBytes, drain.serverPeakBytes) / MEGA;
  const figure = (what: string, unit: string, ours: number, aim: Aim): Figure => ({
    part: "scale",
    what,
    unit,
    ours,
    other: null,
    aim,
    samples: 1,
  });
  return [
    ...(uploads ? [] : [figure(`ingest ${of}`, "s", ingest.ms / 1_000, judged(AIMS.ingestSeconds))]),
    figure(
      `builds ${of}, ${how}`,
      "builds/s",
      (nodes / drain.ms) * 1_000,
      judged(uploads ? NO_AIM : AIMS.buildsASecond),
    ),
    figure(`ready to assigned, p99 ${of}, ${how}`, "ms", percentile(delays, 99), judged(AIMS.delayMs)),
    figure(`server's memory ${of}, ${how}`, "MB", peak, judged(AIMS.serverMegabytes)),
  ];
}

function growth(results: readonly ScaleResult[], uploads: boolean): Figure {
  const cost = ({ nodes, ingest, drain }: ScaleResult) => {
    const all = [ingest, drain].flatMap((phase) => Object.values(phase?.cpu ?? {}));
    return all.reduce((sum, ms) => sum + ms, 0) / nodes;
  };
  const [small, large] = [results[0] as ScaleResult, results.at(-1) as ScaleResult];
  return {
    part: "scale",
    what: `CPU time a derivation at 100,000, ${uploads ? "with" : "without"} uploads`,
    unit: "ms",
    ours: cost(large),
    other: { name: "at 1,000", value: cost(small) },
    aim: AIMS.growth,
    samples: 1,
  };
}
