import { createHash } from "node:crypto";
import { type Bytes, toHex, utf8 } from "#core/lib/bytes.ts";
import { collect } from "#core/lib/streams.ts";
import { encodeBase32 } from "#core/nix/base32.ts";
import { printDerivation } from "#core/nix/derivation.ts";
import { writeNar } from "#core/nix/nar-writer.ts";
import { derivationPath, type StorePath } from "#core/nix/store-path.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import { Random } from "#test/sim/random.ts";
import { compressZstdAtOnce } from "#worker/codec.ts";

export const SYSTEM = "x86_64-linux";
export const EDGES_A_NODE = 5;

const LAYERS = 40;
/** What nearly everything rests on, as on a compiler and a shell: this share of the nodes gets this share of edges. */
const TOOLS_SHARE = 0.002;
const TOOLS_MIN = 5;
const EDGES_TO_TOOLS = 0.4;
/** The other edges go to the layers right below. */
const LAYERS_BELOW = 5;
const FAN_IN_MAX = 80;
const NODES_AN_ATTRIBUTE = 20;
const NAR_BYTES_MAX = 65_536;

export interface GraphNode {
  readonly drvPath: StorePath;
  readonly aterm: Bytes;
  readonly outputs: readonly Output[];
}

export interface Output {
  readonly name: string;
  readonly path: StorePath;
  readonly info: PathInfoField;
  readonly zstd: Uint8Array;
}

export interface Graph {
  /** Dependencies come before what rests on them. */
  readonly nodes: readonly GraphNode[];
  readonly attributes: readonly { readonly attribute: readonly string[]; readonly drvPath: StorePath }[];
  readonly edges: number;
}

/**
 * A graph in layers, the same for the same size: 5 edges a node, most nodes with few and some with dozens; two fifths
 * of the edges end at some tools, of which the first carries a third of everything.
 */
export async function makeGraph(size: number): Promise<Graph> {
  const random = new Random(size);
  const below = chooseDependencies(random, size);
  const nodes: GraphNode[] = [];
  for (let i = 0; i < size; i++) {
    const dependencies = (below[i] as readonly number[]).map((k) => nodes[k] as GraphNode);
    nodes.push(await makeNode(random, `package-${i}`, `${size}:${i}`, dependencies));
  }
  const attributes = nodes.flatMap(({ drvPath }, i) =>
    i % NODES_AN_ATTRIBUTE === NODES_AN_ATTRIBUTE - 1
      ? [{ attribute: ["packages", SYSTEM, `package-${i}`], drvPath }]
      : [],
  );
  return { nodes, attributes, edges: below.reduce((sum, { length }) => sum + length, 0) };
}

/** Of each node the numbers of those that it needs. */
function chooseDependencies(random: Random, size: number): readonly (readonly number[])[] {
  const width = Math.max(1, Math.ceil(size / LAYERS));
  const tools = Math.max(TOOLS_MIN, Math.round(size * TOOLS_SHARE));
  let missing = size * EDGES_A_NODE;
  return Array.from({ length: size }, (_, i) => {
    const layer = Math.floor(i / width);
    const available = layer * width;
    const left = size - i;
    // Spread like the ages of radioactive atoms, around what is still missing a node.
    const wanted = Math.round((-Math.log(1 - random.next()) * missing) / left);
    const count = available === 0 ? 0 : Math.min(wanted, FAN_IN_MAX, Math.floor(available / 2));
    const chosen = new Set<number>();
    const first = Math.max(0, (layer - LAYERS_BELOW) * width);
    for (let tries = 0; chosen.size < count && tries < 4 * count; tries++) {
      const toTool = random.chance(EDGES_TO_TOOLS);
      chosen.add(toTool ? pickTool(random, Math.min(tools, available)) : random.between(first, available - 1));
    }
    missing -= chosen.size;
    return [...chosen];
  });
}

/** The k-th is chosen about 1/k times as often as the first. */
function pickTool(random: Random, count: number): number {
  return Math.min(count - 1, Math.floor(count ** random.next()) - 1 + (random.chance(0.1) ? 1 : 0));
}

async function makeNode(
  random: Random,
  name: string,
  identity: string,
  below: readonly GraphNode[],
): Promise<GraphNode> {
  const names = random.chance(0.2) ? ["dev", "out"] : ["out"];
  const paths = new Map(names.map((output) => [output, makePath(`${identity}:${output}`, name)]));
  const needs = new Map(
    below.map(({ drvPath, outputs }) => [drvPath, random.chance(0.3) ? outputs.map((o) => o.name) : ["out"]]),
  );
  const source = makePath(`builder ${random.below(50)}`, "builder.sh");
  const inputs = below.flatMap(({ outputs }) => outputs.at(-1)?.path ?? []);
  const env = {
    name,
    pname: name,
    version: "1.0",
    builder: "/bin/sh",
    system: SYSTEM,
    strictDeps: "1",
    buildInputs: inputs.join(" "),
    nativeBuildInputs: inputs.slice(0, 2).join(" "),
    configureFlags: "--enable-shared --disable-static --with-a-rather-long-flag=yes",
    buildPhase: "runHook preBuild\nmake -j$NIX_BUILD_CORES SHELL=$SHELL\nrunHook postBuild\n".repeat(4),
    ...Object.fromEntries(paths),
  };
  const aterm = printDerivation({
    outputs: new Map(Array.from(paths, ([output, path]) => [output, { path, hashAlgorithm: "", hash: "" }])),
    inputDerivations: needs,
    inputSources: [source],
    system: SYSTEM,
    builder: "/bin/sh",
    args: ["-e", source],
    env: new Map(Object.entries(env)),
  });
  const drvPath = await derivationPath(name, aterm, [...needs.keys(), source]);
  const references = inputs.slice(0, 3).sort();
  const outputs: Output[] = [];
  for (const [output, path] of paths) outputs.push({ name: output, path, ...(await makeFile(path, references)) });
  return { drvPath, aterm, outputs };
}

async function makeFile(path: StorePath, references: readonly StorePath[]): Promise<Pick<Output, "info" | "zstd">> {
  const bytes = utf8(`built as ${path}\n${references.join("\n")}\n`);
  const nar = await collect(
    writeNar([
      { kind: "file", name: "", executable: false, size: bytes.length, offset: 0 },
      { kind: "content", bytes },
    ]),
    NAR_BYTES_MAX,
  );
  const nar_hash = toHex(createHash("sha256").update(nar).digest());
  const info = { path, nar_hash, nar_size: nar.length, references: [...references], deriver: null, ca: null };
  return { info, zstd: compressZstdAtOnce(nar) };
}

function makePath(identity: string, name: string): StorePath {
  const hash = encodeBase32(createHash("sha256").update(identity).digest().subarray(0, 20));
  return `/nix/store/${hash}-${name}` as StorePath;
}
