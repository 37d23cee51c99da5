import { randomUUID } from "node:crypto";
import { chmod, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isInputName, matchesInput } from "#core/nix/input-pattern.ts";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError } from "./errors.ts";
import { type FlakeSource, WRAPPED_INPUT } from "./expressions.ts";
import type { FetchedSource } from "./fetch.ts";
import { type FlakeLock, rootInputs, withoutNotes } from "./flake-lock.ts";
import { refuseLocalInputs } from "./lock-file.ts";
import { describeFlake } from "./stored-source.ts";

export interface InputOverride {
  /** The name of an input of the flake, or a pattern of names. */
  readonly input: string;
  /** What it is instead. Null: what the flake says it is, at its newest state. */
  readonly url: string | null;
}

export interface OverrideContext {
  readonly environment: EvaluationEnvironment;
  readonly deadline: number;
  /** Told of overrides that change nothing. */
  readonly warn: (text: string) => void;
}

/** A reference as a flake writes it: a URL, or attributes. */
type Reference = string | Readonly<Record<string, unknown>>;

const OVERRIDES_FOLDER = "overrides";

/** What a killed worker was about, in the folders of all organizations. Before the first evaluation. */
export async function removeLeftOverrides(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => [] as string[]);
  const left = names.map((name) => join(folder, name, OVERRIDES_FOLDER));
  await Promise.all(left.map((path) => rm(path, { recursive: true, force: true })));
}

/** The settings under which newest means newest, and not the newest of the last hour. */
const REFRESH = ["--option", "tarball-ttl", "0", "--no-write-lock-file"];

/**
 * The flake with other inputs, by Nix's own rules: a second flake has it as an input and says what its inputs are. The
 * inputs that are not named stay as the flake's lock has them; the flake's own source and revision do not change.
 * Throws `EvaluationError`.
 */
export async function overrideInputs(
  { flakeReference, folder }: Pick<FetchedSource, "flakeReference" | "folder">,
  overrides: readonly InputOverride[],
  context: OverrideContext,
): Promise<FlakeSource> {
  const { environment, deadline } = context;
  const describe = (reference: string, options: readonly string[] = REFRESH) =>
    describeFlake(reference, { environment, readable: { folder, references: [] }, deadline }, options);
  const described = await describe(flakeReference);
  const chosen = chooseInputs(described.lock, overrides, context);
  if (chosen.size === 0) return { flakeReference, isWrapped: false };

  const wrapper = join(environment.dataDir, OVERRIDES_FOLDER, randomUUID());
  try {
    await mkdir(wrapper, { recursive: true });
    await chmod(wrapper, 0o755);
    const write = (inputs: ReadonlyMap<string, ChosenInput>) =>
      writeFile(join(wrapper, "flake.nix"), wrapperText(described.storedReference, inputs));
    await write(chosen);
    const renewed = [...chosen.keys()].flatMap((name) => ["--update-input", `${WRAPPED_INPUT}/${name}`]);
    const resolved = (await describe(`path:${wrapper}`, [...REFRESH, ...renewed])).lock;
    if (!environment.allowLocalSources) refuseLocalInputs(resolved.text, (input) => input === WRAPPED_INPUT);
    // Nix 2.8 takes an input that is overridden from above for changed each time, unless it names one state only.
    await write(lockedInputs(chosen, resolved));
    const { lock } = await describe(`path:${wrapper}`);
    await writeFile(join(wrapper, "flake.lock"), lock.text);
    const { storedReference } = await describe(`path:${wrapper}`, []);
    return { flakeReference: storedReference, isWrapped: true };
  } finally {
    await rm(wrapper, { recursive: true, force: true });
  }
}

/** The same inputs, by the one state of each that was found. */
function lockedInputs(chosen: ReadonlyMap<string, ChosenInput>, lock: FlakeLock): Map<string, ChosenInput> {
  const node = rootInputs(lock)[WRAPPED_INPUT];
  const inputs = typeof node === "string" ? lock.nodes[node]?.inputs : undefined;
  const locked = Array.from(chosen, ([name, { isFlake, reference }]): [string, ChosenInput] => {
    const input = inputs?.[name];
    const found = typeof input === "string" ? lock.nodes[input]?.locked : null;
    return [name, { isFlake, reference: found ? withoutNotes(found) : reference }];
  });
  return new Map(locked);
}

interface ChosenInput {
  readonly reference: Reference;
  readonly isFlake: boolean;
}

/** What each input becomes; where several overrides fit, the one that names it counts, else the first. */
function chooseInputs(
  lock: FlakeLock,
  overrides: readonly InputOverride[],
  { warn }: OverrideContext,
): ReadonlyMap<string, ChosenInput> {
  const inputs = rootInputs(lock);
  const names = Object.keys(inputs);
  const chosen = new Map<string, ChosenInput>();
  const exactFirst = [...overrides].sort((a, b) => Number(isInputName(b.input)) - Number(isInputName(a.input)));
  for (const { input, url } of exactFirst) {
    const matching = names.filter((name) => matchesInput(input, name));
    if (matching.length === 0) {
      const has = names.length === 0 ? "it has none" : `it has ${names.join(", ")}`;
      warn(`the override of the input ${input} changes nothing: the flake has no such input; ${has}`);
    }
    for (const name of matching) {
      if (chosen.has(name)) continue;
      const node = inputs[name];
      const locked = typeof node === "string" ? lock.nodes[node] : undefined;
      const reference = url ?? locked?.original ?? null;
      if (reference !== null) chosen.set(name, { reference, isFlake: locked?.isFlake ?? true });
      else warn(`the input ${name} follows another one: override that one instead`);
    }
  }
  return chosen;
}

function wrapperText(flakeReference: string, chosen: ReadonlyMap<string, ChosenInput>): string {
  const inputs = Array.from(chosen, ([name, { reference, isFlake }]) => {
    const attributes = typeof reference === "string" ? { url: reference } : reference;
    return `    inputs.${nixText(name)} = ${nixAttributes(isFlake ? attributes : { ...attributes, flake: false })};`;
  });
  const wrapped = [`    url = ${nixText(flakeReference)};`, ...inputs].join("\n");
  return `{\n  inputs.${WRAPPED_INPUT} = {\n${wrapped}\n  };\n  outputs = inputs: { };\n}\n`;
}

function nixAttributes(attributes: Readonly<Record<string, unknown>>): string {
  const fields = Object.entries(attributes).map(([name, value]) => {
    if (typeof value === "string") return `${nixText(name)} = ${nixText(value)};`;
    if (typeof value === "boolean" || Number.isSafeInteger(value)) return `${nixText(name)} = ${String(value)};`;
    throw new EvaluationError("flake_broken", `the flake's lock has an input whose ${name} cannot be understood`);
  });
  return `{ ${fields.join(" ")} }`;
}

/** A string in Nix's language. */
function nixText(text: string): string {
  return `"${text.replace(/[\\"]/g, "\\$&").replaceAll("${", "\\${").replaceAll("\n", "\\n")}"`;
}
