import type { BuildItem } from "./api.ts";
import { readOutputs, shortName } from "./builds.ts";
import { fetchNarInfo } from "./cache-client.ts";
import type { Gradient } from "./gradient.ts";

type NarInfoFacts = Readonly<Record<string, string>>;

interface BuildOutcome {
  readonly status: string;
  readonly log: string;
  /** By the name of the output: what the cache says of it, or null where it has nothing. */
  readonly outputs: Readonly<Record<string, NarInfoFacts | null>>;
}

/** Everything that an evaluation leaves behind and that another run of the same flake leaves behind as well. */
export interface Outcome {
  readonly status: string;
  readonly errorCount: number;
  readonly messages: readonly unknown[];
  /** Attribute paths, and the names of their builds. */
  readonly entryPoints: readonly (readonly [attribute: string, build: string])[];
  readonly builds: Readonly<Record<string, BuildOutcome>>;
}

/** What Nix itself notes in any log when two of its processes write to their database at once. */
const NIX_BUSY = /^.*SQLite database .* is busy.*\n/gm;
/** Keys, and so signatures, are each server's own. */
const NAR_INFO_FIELDS = /^(?:StorePath|NarHash|NarSize|References|Deriver|CA): /;

export async function readOutcome(gradient: Gradient, project: string, evaluation: string): Promise<Outcome> {
  const { api } = gradient;
  const { status, error_count } = await api.evaluation(evaluation);
  const messages = await api.messages(evaluation);
  const items = await api.builds(evaluation);
  const names = new Map(items.map((item) => [item.id, shortName(item)]));
  const points = await api.request<{ eval: string; build_id: string }[]>(
    "GET",
    `/projects/${project}/entry-points?evaluation_id=${evaluation}`,
  );
  const builds = items.map(async (item) => [shortName(item), await readBuild(gradient, item)] as const);
  return {
    status,
    errorCount: error_count,
    messages: messages.map(({ level, message, source, entry_points }) => ({ level, message, source, entry_points })),
    entryPoints: points.map((point) => [point.eval, names.get(point.build_id) ?? ""]),
    builds: Object.fromEntries(await Promise.all(builds)),
  };
}

/**
 * What a run must end as, by one that nobody disturbed. The outputs of an interrupted build may be in the worker's
 * store already: they are taken from there then, and there is no log.
 */
export function expectedOutcome(undisturbed: Outcome, disturbed: Outcome, interrupted: ReadonlySet<string>): Outcome {
  const builds = Object.entries(undisturbed.builds).map(([name, build]) => {
    const found = interrupted.has(name) && disturbed.builds[name]?.status === "Substituted";
    return [name, found ? { ...build, status: "Substituted", log: "" } : build];
  });
  return { ...undisturbed, builds: Object.fromEntries(builds) };
}

async function readBuild(gradient: Gradient, item: BuildItem): Promise<BuildOutcome> {
  const outputs = Object.entries(await readOutputs(gradient, item.id)).map(async ([name, path]) => {
    const answer = await fetchNarInfo(gradient, path);
    return [name, answer.ok ? narInfoFacts(await answer.text()) : null] as const;
  });
  return {
    status: item.status,
    log: (await gradient.api.log(item.id)).replace(NIX_BUSY, ""),
    outputs: Object.fromEntries(await Promise.all(outputs)),
  };
}

function narInfoFacts(text: string): NarInfoFacts {
  const fields = text.split("\n").filter((line) => NAR_INFO_FIELDS.test(line));
  const facts = Object.fromEntries(fields.map((line) => line.split(": ", 2)));
  // Its content is another one each time.
  if (facts.StorePath?.endsWith("-bulky")) delete facts.NarHash;
  return facts;
}
