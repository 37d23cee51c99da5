import type { Aim, Figure, PartResult } from "./figures.ts";
import { percentile } from "./scale/latency.ts";
import { type Phase, runScale, type ScaleResult, SLOTS, WORKERS } from "./scale/run.ts";

const SIZES = [1_000, 10_000, 100_000];
/** With uploads most of the time goes into them, whatever the size of the graph. */
const UPLOAD_SIZES = [1_000, 10_000];
/** So that the places of all workers together ask for some 760 builds a second: about half of the peak on two cores. */
const BUILD_MS = 1_050;
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
    "every build (from the first assignment to the last acknowledged result). The hub runs in one process, all " +
    "workers in another, each with its own session code and protocol connection over one shared stream; PostgreSQL " +
    "is the embedded one with its usual settings, on disk. All share the machine. Workers forget the graph once it " +
    "is reported.",
  "`scale`: builds end at once, and their outputs are in the cache before they begin; with uploads each worker sends " +
    "a NAR of some hundred bytes for every output, which the server stores on disk, checks, signs and offers.",
  `\`scale\`: the delay is measured with builds of ${BUILD_MS} ms (each half to one and a half of it), since places ` +
    "of workers whose builds take no time wait for the server by construction: some 760 a second. It " +
    "is that from a build being ready and any place being free to its arrival at a worker. Memory is the server's " +
    "peak (`VmHWM`) over ingest and builds; growth compares the CPU time that one " +
    "derivation costs all processes at 100,000 with that at 1,000.",
];

/** How the scheduler's cost grows with the graph. */
export async function benchScale(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  const figures: Figure[] = [];
  const results: ScaleResult[] = [];
  for (const nodes of SIZES) {
    const result = await runScale({ nodes, uploads: false, environment: settings });
    results.push(result);
    figures.push(...figuresOf(result));
    const { delays } = await runScale({ nodes, uploads: false, buildMs: BUILD_MS, environment: settings });
    figures.push(figure(`ready to assigned, p99 ${of(nodes)}`, "ms", percentile(delays, 99), judged(nodes, "delayMs")));
  }
  figures.push(growth(results));
  for (const nodes of UPLOAD_SIZES) {
    const { drain } = await runScale({ nodes, uploads: true, environment: settings });
    figures.push(figure(`builds ${of(nodes)}, with uploads`, "builds/s", perSecond(nodes, drain), NO_AIM));
  }
  return { figures, notes: NOTES };
}

function figuresOf({ nodes, ingest, drain }: ScaleResult): Figure[] {
  const peak = Math.max(ingest.serverPeakBytes, drain?.serverPeakBytes ?? 0) / MEGA;
  return [
    figure(`ingest ${of(nodes)}`, "s", ingest.ms / 1_000, judged(nodes, "ingestSeconds")),
    figure(`builds ${of(nodes)}`, "builds/s", perSecond(nodes, drain), judged(nodes, "buildsASecond")),
    figure(`server's memory ${of(nodes)}`, "MB", peak, judged(nodes, "serverMegabytes")),
  ];
}

function growth(results: readonly ScaleResult[]): Figure {
  const cost = ({ nodes, ingest, drain }: ScaleResult) => {
    const all = [ingest, drain].flatMap((phase) => Object.values(phase?.cpu ?? {}));
    return all.reduce((sum, ms) => sum + ms, 0) / nodes;
  };
  const [small, large] = [results[0] as ScaleResult, results.at(-1) as ScaleResult];
  const at = (nodes: number) => nodes.toLocaleString("en-US");
  return {
    part: "scale",
    what: `CPU time a derivation ${of(large.nodes)}`,
    unit: "ms",
    ours: cost(large),
    other: { name: `of ${at(small.nodes)}`, value: cost(small) },
    aim: AIMS.growth,
    samples: 1,
  };
}

function figure(what: string, unit: string, ours: number, aim: Aim): Figure {
  return { part: "scale", what, unit, ours, other: null, aim, samples: 1 };
}

/** Aims are set for the largest graph. */
function judged(nodes: number, aim: keyof typeof AIMS): Aim {
  return nodes === SIZES.at(-1) ? AIMS[aim] : NO_AIM;
}

function of(nodes: number): string {
  return `of ${nodes.toLocaleString("en-US")}`;
}

function perSecond(nodes: number, phase: Phase | null): number {
  if (!phase) throw new Error("nothing was built");
  return (nodes / phase.ms) * 1_000;
}
