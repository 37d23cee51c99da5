import { byteStringText } from "./byte-string.ts";
import { type Derivation, type DerivationOutput, DerivationParseError } from "./derivation-shape.ts";
import { parseStorePath, type StorePath, storePathName } from "./store-path.ts";

/** What scheduling needs to know of a derivation. */
export interface DerivationFacts {
  /** Without `.drv`. Empty when neither an attribute nor an output's path says it. */
  readonly name: string;
  readonly pname: string | null;
  readonly system: string;
  /** Nix itself is the builder (`builtin:fetchurl`): any system can build it. */
  readonly isBuiltin: boolean;
  readonly requiredSystemFeatures: readonly string[];
  readonly preferLocalBuild: boolean;
  readonly allowSubstitutes: boolean;
  /** The output's hash is stated beforehand. */
  readonly isFixedOutput: boolean;
  /** Addressed by a content that is not known before the build; every output's path is null. */
  readonly isContentAddressed: boolean;
  /** Input-addressed, below something content-addressed: its paths are only known once that is built. */
  readonly isDeferred: boolean;
  readonly isImpure: boolean;
  /** The derivation's own limits on the whole build and on silence; 0 is "none", null "it does not say". */
  readonly timeoutSeconds: number | null;
  readonly maxSilentSeconds: number | null;
  readonly outputs: readonly { readonly name: string; readonly path: StorePath | null }[];
}

const COMMA = 0x2c;
const BRACKET = 0x5b;
const BRACE = 0x7b;

type OutputKind = "input-addressed" | "fixed" | "floating" | "impure" | "deferred";

/** A year; what is larger is a mistake and counts as not said. */
const SECONDS_MAX = 366 * 24 * 3600;

/** Values in `__json`: each takes tens of bytes once it is read, however short it is written. */
const JSON_VALUES_MAX = 2_000_000;

/**
 * Attributes come from the environment or, with `__structuredAttrs`, from `__json`. A value of the wrong type counts as
 * absent here; Nix refuses it when it builds. Throws `DerivationParseError` when `__json` is no JSON object or when
 * the outputs are of different kinds.
 */
export function derivationFacts(derivation: Derivation): DerivationFacts {
  const attribute = attributeReader(derivation);
  const kind = outputKind(derivation);
  const outputs = Array.from(derivation.outputs, ([name, { path }]) => ({ name, path: parseStorePath(path) }));
  return {
    name: asText(attribute("name")) ?? nameFromOutput(outputs[0]),
    pname: asText(attribute("pname")),
    system: byteStringText(derivation.system),
    isBuiltin: derivation.builder.startsWith("builtin:"),
    requiredSystemFeatures: asWords(attribute("requiredSystemFeatures")),
    preferLocalBuild: asBoolean(attribute("preferLocalBuild"), false),
    allowSubstitutes: asBoolean(attribute("allowSubstitutes"), true),
    isFixedOutput: kind === "fixed",
    isContentAddressed: kind === "floating",
    isDeferred: kind === "deferred",
    isImpure: kind === "impure",
    timeoutSeconds: asSeconds(attribute("timeout")),
    maxSilentSeconds: asSeconds(attribute("maxSilent")),
    outputs,
  };
}

/** Environment values are strings (true is "1"), structured ones are JSON: the readers below take both. */
function attributeReader({ env }: Derivation): (name: string) => unknown {
  const json = env.get("__json");
  if (json === undefined) {
    return (name) => {
      const value = env.get(name);
      return value === undefined ? undefined : byteStringText(value);
    };
  }
  const attributes = parseObject(byteStringText(json));
  return (name) => (Object.hasOwn(attributes, name) ? attributes[name] : undefined);
}

function parseObject(text: string): Record<string, unknown> {
  if (!hasValuesUpTo(text, JSON_VALUES_MAX)) {
    throw new DerivationParseError(`its __json has more than ${JSON_VALUES_MAX} values`, { offset: null });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new DerivationParseError("its __json is no JSON object", { offset: null });
  }
  return value as Record<string, unknown>;
}

/** Every value but the first follows one of these. Those inside of texts count, too. */
function hasValuesUpTo(json: string, max: number): boolean {
  if (json.length <= max) return true;
  let values = 1;
  for (let i = 0; i < json.length && values <= max; i++) {
    const code = json.charCodeAt(i);
    if (code === COMMA || code === BRACKET || code === BRACE) values++;
  }
  return values <= max;
}

function outputKind({ outputs }: Derivation): OutputKind {
  const kinds = new Set(Array.from(outputs.values(), kindOf));
  const [kind] = kinds;
  if (kind === undefined || kinds.size > 1) {
    throw new DerivationParseError("its outputs are of different kinds", { offset: null });
  }
  return kind;
}

function kindOf({ path, hashAlgorithm, hash }: DerivationOutput): OutputKind {
  if (hash === "impure") return "impure";
  if (hash !== "") return "fixed";
  if (hashAlgorithm !== "") return "floating";
  return path === "" ? "deferred" : "input-addressed";
}

/** An output's path is named after the derivation, with `-<output>` behind it unless the output is `out`. */
function nameFromOutput(output: DerivationFacts["outputs"][number] | undefined): string {
  if (!output?.path) return "";
  const name = storePathName(output.path);
  const suffix = `-${output.name}`;
  return output.name !== "out" && name.endsWith(suffix) ? name.slice(0, -suffix.length) : name;
}

function asText(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

function asBoolean(value: unknown, byDefault: boolean): boolean {
  if (typeof value === "boolean") return value;
  return typeof value === "string" ? value === "1" : byDefault;
}

function asWords(value: unknown): string[] {
  const words = typeof value === "string" ? value.split(/[ \t\r\n]+/) : Array.isArray(value) ? value : [];
  return [...new Set(words.filter((word) => typeof word === "string" && word !== ""))];
}

function asSeconds(value: unknown): number | null {
  const seconds = typeof value === "string" && /^[0-9]{1,9}$/.test(value) ? Number(value) : value;
  if (typeof seconds !== "number" || !Number.isInteger(seconds)) return null;
  return seconds >= 0 && seconds <= SECONDS_MAX ? seconds : null;
}
