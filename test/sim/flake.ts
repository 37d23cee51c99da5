import { createHash } from "node:crypto";
import { type Bytes, toHex, utf8 } from "#core/lib/bytes.ts";
import { collect } from "#core/lib/streams.ts";
import { encodeBase32 } from "#core/nix/base32.ts";
import { printDerivation } from "#core/nix/derivation.ts";
import type { NarEvent } from "#core/nix/nar.ts";
import { writeNar } from "#core/nix/nar-writer.ts";
import { derivationPath, type StorePath } from "#core/nix/store-path.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import type { FailureClass } from "#core/protocol/worker-messages.ts";
import type { Random } from "./random.ts";

export const SYSTEM = "x86_64-linux";
export const OTHER_SYSTEM = "aarch64-linux";
export const FEATURE = "kvm";
/** Runs anywhere. */
export const PROBE_SYSTEM = "builtin";
const MIB = 1024 * 1024;

/** What is in a store: its bytes and what is known of them. */
export interface StoreObject {
  readonly nar: Bytes;
  readonly info: PathInfoField;
}

export interface SimulatedDerivation {
  readonly name: string;
  readonly drvPath: StorePath;
  readonly aterm: Bytes;
  readonly outputs: ReadonlyMap<string, StorePath>;
  /** By derivation path, the outputs that are needed. */
  readonly needs: ReadonlyMap<StorePath, readonly string[]>;
  readonly source: StorePath | null;
  /** How each try ends, one after the other; the last one stands for all that follow. Null is success. */
  readonly ends: readonly (FailureClass | null)[];
  readonly durationMs: number;
  readonly system: string;
  readonly features: readonly string[];
}

/** Every derivation that evaluations of one run may come upon, dependencies first, and what they are made of. */
export interface Universe {
  readonly derivations: ReadonlyMap<StorePath, SimulatedDerivation>;
  readonly objects: ReadonlyMap<StorePath, StoreObject>;
  /** Each takes long, runs anywhere and succeeds: they show at the end that every place of every worker works. */
  readonly probes: readonly SimulatedDerivation[];
}

export const PROBE_MS = 100_000;

/** What an evaluation of one commit finds. */
export interface SimulatedFlake {
  readonly attributes: readonly { readonly name: string; readonly drvPath: StorePath }[];
  /** The whole evaluation fails in the end. */
  readonly broken: boolean;
  readonly warnings: number;
}

export interface UniverseOptions {
  readonly size: number;
  readonly probeCount: number;
  /** Some derivations are for another system or need a feature. */
  readonly mixed: boolean;
}

export async function makeUniverse(random: Random, options: UniverseOptions): Promise<Universe> {
  const { size, probeCount, mixed } = options;
  const derivations = new Map<StorePath, SimulatedDerivation>();
  const objects = new Map<StorePath, StoreObject>();
  const prefix = String(random.below(2 ** 32));
  for (let i = 0; i < size; i++) {
    const below = [...derivations.values()];
    const needed = new Set(Array.from({ length: Math.min(i, random.below(4)) }, () => random.pick(below)));
    const needs = new Map<StorePath, readonly string[]>();
    for (const { drvPath, outputs } of needed) {
      const names = [...outputs.keys()];
      needs.set(drvPath, random.chance(0.3) ? names : [random.pick(names)]);
    }
    const source = random.chance(0.2) ? await addObject(objects, random, `${prefix}:${i}:source`, []) : null;
    const system = mixed && random.chance(0.2) ? OTHER_SYSTEM : SYSTEM;
    const features = mixed && random.chance(0.15) ? [FEATURE] : [];
    const shape = { name: `n${i}`, identity: `${prefix}:${i}`, needs, source, system, features };
    const derivation = await makeDerivation(random, shape);
    derivations.set(derivation.drvPath, derivation);
    for (const path of derivation.outputs.values()) {
      const inputs = inputsOf(derivation, derivations).filter(() => random.chance(0.5));
      await addObject(objects, random, path, inputs);
    }
  }
  const probes: SimulatedDerivation[] = [];
  for (let i = 0; i < probeCount; i++) {
    const rest = { needs: new Map(), source: null, system: PROBE_SYSTEM, features: [] };
    const shape = { name: `probe${i}`, identity: `${prefix}:probe${i}`, ...rest };
    const probe = { ...(await makeDerivation(random, shape)), ends: [null], durationMs: PROBE_MS };
    probes.push(probe);
    derivations.set(probe.drvPath, probe);
    for (const path of probe.outputs.values()) await addObject(objects, random, path, []);
  }
  return { derivations, objects, probes };
}

/** What must be in the store before a build: the needed outputs below it, and its source. */
export function inputsOf(
  { needs, source }: Pick<SimulatedDerivation, "needs" | "source">,
  derivations: ReadonlyMap<StorePath, SimulatedDerivation>,
): StorePath[] {
  const outputs = [...needs].flatMap(([drvPath, names]) =>
    names.map((name) => derivations.get(drvPath)?.outputs.get(name) as StorePath),
  );
  return source ? [...outputs, source] : outputs;
}

export function makeFlake(random: Random, { derivations, probes }: Universe): SimulatedFlake {
  const all = [...derivations.values()].slice(0, derivations.size - probes.length);
  const count = random.between(1, Math.min(6, all.length));
  // Mostly the upper half: what stands high rests on much.
  const roots = Array.from({ length: count }, () =>
    random.chance(0.7)
      ? (all[all.length - 1 - random.below(Math.ceil(all.length / 2))] ?? random.pick(all))
      : random.pick(all),
  );
  const attributes = [...new Set(roots)].map(({ name, drvPath }) => ({ name, drvPath }));
  return { attributes, broken: random.chance(0.05), warnings: random.below(3) };
}

type Shape = Pick<SimulatedDerivation, "name" | "needs" | "source" | "system" | "features"> & {
  readonly identity: string;
};

async function makeDerivation(random: Random, shape: Shape): Promise<SimulatedDerivation> {
  const { name, identity, needs, source, system, features } = shape;
  const names = random.chance(0.3) ? ["dev", "out"] : ["out"];
  const outputs = new Map(names.map((output) => [output, makePath(`${identity}:${output}`, name)]));
  const inputSources = source ? [source] : [];
  const aterm = printDerivation({
    outputs: new Map(Array.from(outputs, ([output, path]) => [output, { path, hashAlgorithm: "", hash: "" }])),
    inputDerivations: needs,
    inputSources,
    system: system === PROBE_SYSTEM ? SYSTEM : system,
    builder: system === PROBE_SYSTEM ? "builtin:fetchurl" : "/bin/sh",
    args: [],
    env: new Map([
      ["name", name],
      ...(features.length > 0 ? [["requiredSystemFeatures", features.join(" ")] as const] : []),
    ]),
  });
  const drvPath = await derivationPath(name, aterm, [...needs.keys(), ...inputSources]);
  return {
    name,
    drvPath,
    aterm,
    outputs,
    needs,
    source,
    ends: makeEnds(random),
    durationMs: makeDuration(random),
    system,
    features,
  };
}

/** Some outlast everything that notices an absence. */
function makeDuration(random: Random): number {
  return random.chance(0.02) ? random.between(150_000, 300_000) : random.between(100, 9_000);
}

function makeEnds(random: Random): readonly (FailureClass | null)[] {
  const transient = () => random.pick(["transient", "out_of_memory", "disk_full", "aborted"] as const);
  return random.weighted<readonly (FailureClass | null)[]>([
    [80, [null]],
    [7, [transient(), null]],
    [4, [transient(), transient(), null]],
    [3, ["permanent"]],
    [2, ["timeout"]],
    [2, ["transient"]],
  ]);
}

async function addObject(
  objects: Map<StorePath, StoreObject>,
  random: Random,
  identity: string | StorePath,
  references: readonly StorePath[],
): Promise<StorePath> {
  const path = identity.startsWith("/") ? (identity as StorePath) : makePath(identity, "source");
  // Now and then more than one window of a stream.
  const size = random.chance(0.03) ? random.between(MIB + MIB / 4, 2 * MIB) : random.between(1, 3_000);
  const content = utf8(path).slice(0, 40);
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += content.length)
    bytes.set(content.subarray(0, Math.min(content.length, size - at)), at);
  const events: NarEvent[] = [
    { kind: "file", name: "", executable: false, size, offset: 0 },
    { kind: "content", bytes },
  ];
  const nar = await collect(writeNar(events), 8 * MIB);
  const nar_hash = toHex(createHash("sha256").update(nar).digest());
  const info = { path, nar_hash, nar_size: nar.length, references: [...references].sort(), deriver: null, ca: null };
  objects.set(path, { nar, info });
  return path;
}

function makePath(identity: string, name: string): StorePath {
  const hash = encodeBase32(createHash("sha256").update(identity).digest().subarray(0, 20));
  return `/nix/store/${hash}-${name}` as StorePath;
}
