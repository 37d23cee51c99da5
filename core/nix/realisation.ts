import { type SecretKey, sign } from "./signature.ts";
import { parseStorePathBaseName, type StorePath, storePathBaseName } from "./store-path.ts";

/** One output of a derivation, by the derivation's hash (`realisationHashOf`, 64 hexadecimal digits). */
export interface RealisationKey {
  readonly hash: string;
  readonly output: string;
}

/** Where an output is that has no path of its own. */
export interface Realisation extends RealisationKey {
  readonly outPath: StorePath;
  /** Realisations of inputs that the output refers to. Nix since 2.33 neither writes nor reads them. */
  readonly dependents: readonly (RealisationKey & { readonly outPath: StorePath })[];
  /** `name:base64`. */
  readonly signatures: readonly string[];
}

const ID = /^sha256:([0-9a-f]{64})!([0-9a-zA-Z+\-._?=]{1,211})$/;
const SIGNATURE = /^[!-9;-~]{1,255}:[A-Za-z0-9+/=]{1,128}$/;
const DEPENDENTS_MAX = 10_000;
const SIGNATURES_MAX = 32;
/** Of ten thousand dependents. */
export const REALISATION_BYTES_MAX: number = 5 * 1024 * 1024;

/** Reads `sha256:<hex>!<output>`. Null for anything else. */
export function parseRealisationId(text: string): RealisationKey | null {
  const match = ID.exec(text);
  return match && { hash: match[1] as string, output: match[2] as string };
}

export function formatRealisationId({ hash, output }: RealisationKey): string {
  return `sha256:${hash}!${output}`;
}

/** Reads a `.doi` file, as Nix 2.4 to 2.34 write it. Null for anything else. */
export function parseRealisation(json: string): Realisation | null {
  const value = json.length > REALISATION_BYTES_MAX ? null : parseObject(json);
  const key = typeof value?.id === "string" ? parseRealisationId(value.id) : null;
  const outPath = parseBaseName(value?.outPath);
  const { signatures = [], dependentRealisations = {} } = value ?? {};
  if (!key || !outPath || !isSignatures(signatures) || !isObject(dependentRealisations)) return null;
  const entries = Object.entries(dependentRealisations);
  if (entries.length > DEPENDENTS_MAX) return null;
  const dependents: (RealisationKey & { readonly outPath: StorePath })[] = [];
  for (const [id, path] of entries) {
    const dependent = parseRealisationId(id);
    const place = parseBaseName(path);
    if (!dependent || !place) return null;
    dependents.push({ ...dependent, outPath: place });
  }
  return { ...key, outPath, dependents, signatures };
}

/** The `.doi` file's content. Keys are sorted, as Nix sorts them. */
export function printRealisation(realisation: Realisation): string {
  return print(realisation, { signatures: [...new Set(realisation.signatures)].sort() });
}

/**
 * What a signature covers. Nix since 2.33 forgets the dependents before it looks: what has some needs a second
 * signature, of the text without them.
 */
export function realisationFingerprints(realisation: Realisation): readonly string[] {
  const whole = print(realisation, {});
  return realisation.dependents.length === 0 ? [whole] : [whole, print({ ...realisation, dependents: [] }, {})];
}

/** The signatures by which every version of Nix trusts the realisation, if it trusts the key. */
export async function signRealisation(key: SecretKey, realisation: Realisation): Promise<string[]> {
  return await Promise.all(realisationFingerprints(realisation).map((text) => sign(key, text)));
}

function print(realisation: Realisation, more: { readonly signatures?: readonly string[] }): string {
  const dependents = realisation.dependents
    .map((dependent) => [formatRealisationId(dependent), storePathBaseName(dependent.outPath)] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify({
    dependentRealisations: Object.fromEntries(dependents),
    id: formatRealisationId(realisation),
    outPath: storePathBaseName(realisation.outPath),
    ...more,
  });
}

function parseObject(json: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(json);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSignatures(value: unknown): value is readonly string[] {
  return (
    Array.isArray(value) &&
    value.length <= SIGNATURES_MAX &&
    value.every((item) => typeof item === "string" && SIGNATURE.test(item))
  );
}

function parseBaseName(value: unknown): StorePath | null {
  return typeof value === "string" ? parseStorePathBaseName(value) : null;
}
