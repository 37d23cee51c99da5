import type { StorePath } from "#core/nix/store-path.ts";
import type { AttributePath } from "./attribute-order.ts";
import type { WalkedNode } from "./walk.ts";

export interface EntryPoint {
  readonly attribute: AttributePath;
  readonly drvPath: StorePath;
}

/** A part of the graph. What its nodes need is in it, or in an earlier one; so is every entry point's derivation. */
export interface GraphBatch {
  readonly nodes: readonly Omit<WalkedNode, "inputSources">[];
  readonly entryPoints: readonly EntryPoint[];
  /** Nothing follows. The last one may be empty. */
  readonly last: boolean;
}

export interface GraphSink {
  /** Input sources that nodes of the next batch name; each is given once. The batch waits for it. */
  sources(paths: readonly StorePath[]): Promise<void>;
  batch(batch: GraphBatch): Promise<void>;
}

const NODES_MAX = 500;
const BYTES_MAX = 4 * 1024 * 1024;

/** Cuts the stream of nodes into batches of at most 500 nodes or 4 MiB (one node alone may be larger). */
export class GraphBatches {
  readonly #sink: GraphSink;
  readonly #announced = new Set<StorePath>();
  #nodes: WalkedNode[] = [];
  #entryPoints: EntryPoint[] = [];
  #bytes = 0;

  constructor(sink: GraphSink) {
    this.#sink = sink;
  }

  async add(node: WalkedNode): Promise<void> {
    const isFull = this.#nodes.length === NODES_MAX || this.#bytes + node.aterm.length > BYTES_MAX;
    if (isFull && this.#nodes.length > 0) await this.flush();
    this.#nodes.push(node);
    this.#bytes += node.aterm.length;
  }

  /** Their derivations were added before. */
  addEntryPoints(entryPoints: readonly EntryPoint[]): void {
    this.#entryPoints.push(...entryPoints);
  }

  /** Sends what there is, so that builds can begin. */
  async flush(): Promise<void> {
    if (this.#nodes.length > 0 || this.#entryPoints.length > 0) await this.#send(false);
  }

  async finish(): Promise<void> {
    await this.#send(true);
  }

  async #send(last: boolean): Promise<void> {
    const sources = new Set<StorePath>();
    for (const { pruned, inputSources } of this.#nodes) {
      if (pruned) continue;
      for (const path of inputSources) if (!this.#announced.has(path)) sources.add(path);
    }
    if (sources.size > 0) await this.#sink.sources([...sources].sort());
    for (const path of sources) this.#announced.add(path);

    const nodes = this.#nodes.map(({ inputSources: _, ...node }) => node);
    const entryPoints = this.#entryPoints;
    this.#nodes = [];
    this.#entryPoints = [];
    this.#bytes = 0;
    await this.#sink.batch({ nodes, entryPoints, last });
  }
}
