import { mkdir, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { benchCi } from "./ci.ts";
import { benchCopy } from "./copy.ts";
import { benchCrowd } from "./crowd.ts";
import { benchDeploy } from "./deploy.ts";
import { type Figure, isMet, type PartResult, renderTable } from "./figures.ts";
import { benchListings } from "./listings.ts";
import { benchLogin } from "./login.ts";
import { benchLong } from "./long.ts";
import { describeMachine } from "./machine.ts";
import { benchMemory } from "./memory.ts";
import { benchNar } from "./nar.ts";
import { benchNarinfo } from "./narinfo.ts";
import { benchScale } from "./scale.ts";
import { benchSeveral } from "./several.ts";
import { benchUpload } from "./upload.ts";

type Settings = Readonly<Record<string, string>>;

const PARTS: Readonly<Record<string, (settings: Settings) => Promise<PartResult>>> = {
  ci: benchCi,
  narinfo: benchNarinfo,
  crowd: benchCrowd,
  several: benchSeveral,
  nar: benchNar,
  copy: benchCopy,
  listings: benchListings,
  login: benchLogin,
  upload: benchUpload,
  memory: benchMemory,
  long: benchLong,
  scale: benchScale,
  deploy: benchDeploy,
};

const USAGE = `usage: node bench/main.ts [--profile FOLDER] [PART ...]

Parts: ${Object.keys(PARTS).join(", ")}. Without one all run, and bench/RESULTS.md is written.
--profile writes CPU profiles of the server and the worker into the folder (the figures suffer).
`;

const RESULTS = new URL("RESULTS.md", import.meta.url);

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({ options: { profile: { type: "string" } }, allowPositionals: true });
  const unknown = positionals.find((name) => !(name in PARTS));
  if (unknown !== undefined) {
    process.stderr.write(`there is no part ${unknown}\n${USAGE}`);
    process.exitCode = 2;
    return;
  }
  const chosen = positionals.length > 0 ? positionals : Object.keys(PARTS);
  const machine = await describeMachine();
  const results: PartResult[] = [];
  const startedAt = performance.now();
  for (const name of chosen) {
    process.stderr.write(`measuring ${name} ...\n`);
    results.push(await (PARTS[name] as (typeof PARTS)[string])(await settingsFor(values.profile)));
  }
  const seconds = Math.round((performance.now() - startedAt) / 1000);
  const text = render({ machine, results, seconds });
  process.stdout.write(text);
  const complete = Object.keys(PARTS).every((name) => chosen.includes(name));
  if (complete && values.profile === undefined) await writeFile(RESULTS, text);
}

async function settingsFor(profileFolder: string | undefined): Promise<Settings> {
  // One client asks as many do: what is measured is not how fast one may be.
  const settings = { GRADIENT_RATE_LIMITS: "false" };
  if (profileFolder === undefined) return settings;
  const path = resolve(profileFolder);
  await mkdir(path, { recursive: true });
  return { ...settings, NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${path}` };
}

interface Report {
  readonly machine: readonly string[];
  readonly results: readonly PartResult[];
  readonly seconds: number;
}

function render({ machine, results, seconds }: Report): string {
  const figures = results.flatMap((result) => result.figures);
  const notes = results.flatMap((result) => result.notes).map((note) => `- ${note}`);
  return [
    "# Benchmark results",
    "",
    "Written by `npm run bench`: one run, everything measured side by side on one machine.",
    "",
    ...machine,
    `- The run took ${seconds} s. Each figure is the median of interleaved rounds.`,
    "",
    renderTable(figures),
    "",
    summary(figures),
    "",
    "## How it was measured",
    "",
    ...notes,
    "",
  ].join("\n");
}

function summary(figures: readonly Figure[]): string {
  const missed = figures.filter((figure) => isMet(figure) === false);
  const judged = figures.filter((figure) => isMet(figure) !== null);
  if (judged.length === 0) return "None of these figures has an aim.";
  if (missed.length === 0) return `All ${judged.length} aims are met.`;
  return `${missed.length} of ${judged.length} aims are missed: ${missed.map(({ what }) => what).join("; ")}.`;
}

await main();
