import type { StorePath } from "#core/nix/store-path.ts";
import type { DerivationFiles } from "./derivation-files.ts";
import { EvaluationError, isUnsupported } from "./errors.ts";
import { RealisationHashes } from "./realisation-hashes.ts";
import { hashField, type KnownQuestion, type Node, needsGiving, questionOf } from "./walk-node.ts";

/** A derivation of the graph. Every derivation it needs was given before it. */
export interface WalkedNode {
  readonly drvPath: StorePath;
  /** The bytes of the `.drv` file. */
  readonly aterm: Uint8Array;
  /** What it needs was not looked at: the wanted outputs are there with their closures. */
  readonly pruned: boolean;
  readonly inputSources: readonly StorePath[];
  /** As in `KnownQuestion`. */
  readonly realisationHash?: string;
}

/**
 * For each question in turn, whether the wanted outputs are there with their closures, so that nothing below has to
 * be known. "I could not find out" is false.
 */
export type AskKnown = (questions: readonly KnownQuestion[]) => Promise<readonly boolean[]>;

export interface WalkOptions {
  readonly files: DerivationFiles;
  readonly known: AskKnown;
  readonly derivationsMax: number;
  /** Throws when the walk must not go on: it was aborted, or its time is over. */
  readonly check: () => void;
}

const QUESTIONS_MAX = 1_000;
/** The first wave asks for the roots alone: mostly they are known, and nothing else has to be read. */
const FIRST_WAVE = 1;
const WAVE_GROWTH = 4;
const READS_AT_ONCE = 32;
/** Files are kept between reading and giving, up to this; beyond it they are read twice. */
const KEPT_BYTES_MAX = 32 * 1024 * 1024;

/**
 * Walks down from derivations, stops below what is known, and gives every derivation after those it needs. One walk
 * serves a whole evaluation: what was given for earlier roots is not given again, but for a pruned derivation of
 * which a later root needs an output that is not there; that one comes again, not pruned, after what it needs.
 */
export class DerivationWalk {
  readonly #options: WalkOptions;
  readonly #hashes: RealisationHashes;
  readonly #nodes = new Map<StorePath, Node>();
  /** What became wanted in this walk. */
  #wants: { readonly node: Node; readonly name: string }[] = [];
  #keptBytes = 0;
  #given = 0;
  #expanded = 0;

  constructor(options: WalkOptions) {
    this.#options = options;
    this.#hashes = new RealisationHashes(options);
  }

  /** Distinct derivations given so far. */
  get count(): number {
    return this.#given;
  }

  /**
   * Of the roots all outputs are wanted. Throws `EvaluationError`: of the code `derivation_unsupported` before anything
   * is given, and other roots may be walked then.
   */
  async *walk(roots: readonly StorePath[]): AsyncGenerator<WalkedNode> {
    const rootNodes = await this.#load(roots);
    this.#wants = [];
    for (const node of rootNodes) for (const name of node.outputs.keys()) this.#want(node, name);
    await this.#settle(rootNodes);
    this.#wants = [];
    for (const root of rootNodes) yield* this.#give(root);
  }

  /** Decides for everything that the roots need whether it is known. Of what it cannot decide nothing is left. */
  async #settle(roots: readonly Node[]): Promise<void> {
    const expanded: Node[] = [];
    try {
      await this.#decide(roots, expanded);
    } catch (error) {
      for (const node of expanded) node.isExpanded = false;
      this.#expanded -= expanded.length;
      for (const { node, name } of this.#wants) {
        node.wanted.delete(name);
        node.askedFor = 0;
        node.isKnown = false;
      }
      throw error;
    }
  }

  async #decide(roots: readonly Node[], expanded: Node[]): Promise<void> {
    let frontier = [...roots];
    let waveSize = Math.max(FIRST_WAVE, roots.length);
    while (frontier.length > 0) {
      this.#options.check();
      const wave = new Set<Node>();
      const rest: Node[] = [];
      const confirmed: Node[] = [];
      for (const node of frontier) {
        if (node.isExpanded || (node.isKnown && node.askedFor === node.wanted.size)) continue;
        if (!node.isKnown && node.askedFor > 0) confirmed.push(node);
        else if (wave.size < Math.min(waveSize, QUESTIONS_MAX)) wave.add(node);
        else rest.push(node);
      }
      const asked = [...wave];
      await this.#lookAhead(wave, Math.min(waveSize, QUESTIONS_MAX));
      await this.#ask([...wave]);
      for (const node of asked) if (!node.isKnown) confirmed.push(node);
      frontier = [...rest, ...(await this.#expand(confirmed, expanded))];
      waveSize *= WAVE_GROWTH;
    }
  }

  /**
   * Fills a wave with what lies below it, as if nothing were known: a question costs a round trip, a graph is hundreds
   * of levels deep, and reading files that turn out not to be needed is cheap.
   */
  async #lookAhead(wave: Set<Node>, size: number): Promise<void> {
    for (let level = [...wave]; level.length > 0 && wave.size < size; ) {
      const next: Node[] = [];
      for (const child of await this.#tryInputs(level)) {
        if (wave.size === size) break;
        if (child.askedFor > 0 || wave.has(child)) continue;
        wave.add(child);
        next.push(child);
      }
      level = next;
    }
  }

  /** None where one is of a kind that is not built: it matters only when it turns out to be needed. */
  async #tryInputs(nodes: readonly Node[]): Promise<Node[]> {
    try {
      return await this.#loadInputs(nodes);
    } catch (error) {
      if (isUnsupported(error)) return [];
      throw error;
    }
  }

  async #ask(nodes: readonly Node[]): Promise<void> {
    if (nodes.length === 0) return;
    const answers = await this.#options.known(nodes.map(questionOf));
    for (const [index, node] of nodes.entries()) {
      node.askedFor = node.wanted.size;
      node.isKnown = answers[index] === true;
    }
  }

  async #expand(nodes: readonly Node[], expanded: Node[]): Promise<Node[]> {
    const children = await this.#loadInputs(nodes);
    for (const node of nodes) {
      if (node.isExpanded) continue;
      node.isExpanded = true;
      expanded.push(node);
      this.#expanded++;
    }
    this.#limit(this.#expanded);
    return children;
  }

  /** The inputs of all nodes, each once, with what these nodes want of them noted. */
  async #loadInputs(nodes: readonly Node[]): Promise<Node[]> {
    const paths = new Set<StorePath>();
    for (const node of nodes) for (const [path] of node.inputs) paths.add(path);
    const children = await this.#load([...paths]);
    for (const node of nodes) {
      for (const [path, names] of node.inputs) {
        for (const name of names) this.#want(this.#nodes.get(path) as Node, name);
      }
    }
    return children;
  }

  #want(node: Node, name: string): void {
    if (node.wanted.has(name)) return;
    node.wanted.add(name);
    this.#wants.push({ node, name });
  }

  async #load(paths: readonly StorePath[]): Promise<Node[]> {
    const missing = [...new Set(paths)].filter((path) => !this.#nodes.has(path));
    let next = 0;
    let failure: { readonly error: unknown } | null = null;
    const read = async () => {
      try {
        for (let path = missing[next++]; path !== undefined && !failure; path = missing[next++]) {
          this.#options.check();
          this.#nodes.set(path, await this.#read(path));
        }
      } catch (error) {
        failure ??= { error };
      }
    };
    // All of them end before this does: the walk goes on where a derivation is only of a kind that is not built.
    await Promise.all(Array.from({ length: Math.min(READS_AT_ONCE, missing.length) }, read));
    const failed = failure as { readonly error: unknown } | null;
    if (failed) throw failed.error;
    return paths.map((path) => this.#nodes.get(path) as Node);
  }

  async #read(path: StorePath): Promise<Node> {
    const { aterm, derivation } = await this.#options.files.read(path);
    const stated = [...derivation.outputs.values()].every(({ path: output }) => output !== "");
    const realisationHash = stated ? null : await this.#hashes.of(derivation);
    const isKept = this.#keptBytes + aterm.length <= KEPT_BYTES_MAX;
    if (isKept) this.#keptBytes += aterm.length;
    return {
      path,
      inputs: [...derivation.inputDerivations],
      inputSources: derivation.inputSources,
      outputs: derivation.outputs,
      realisationHash,
      wanted: new Set(),
      askedFor: 0,
      isKnown: false,
      isExpanded: false,
      given: "no",
      aterm: isKept ? aterm : null,
    };
  }

  /** Depth first with a stack of our own: graphs are deeper than the machine's stack. */
  async *#give(root: Node): AsyncGenerator<WalkedNode> {
    const stack: { node: Node; next: number }[] = [{ node: root, next: 0 }];
    const open = new Set<Node>([root]);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const { node } = top;
      const child = needsGiving(node) && node.isExpanded ? node.inputs[top.next++] : undefined;
      if (child !== undefined) {
        const childNode = this.#nodes.get(child[0]) as Node;
        if (!needsGiving(childNode)) continue;
        if (open.has(childNode)) {
          throw new EvaluationError("derivation_unreadable", `${childNode.path} needs itself: verify the store`);
        }
        open.add(childNode);
        stack.push({ node: childNode, next: 0 });
        continue;
      }
      stack.pop();
      open.delete(node);
      if (needsGiving(node)) yield await this.#giveOne(node);
    }
  }

  async #giveOne(node: Node): Promise<WalkedNode> {
    this.#options.check();
    if (node.given === "no") this.#limit(++this.#given);
    const aterm = node.aterm ?? (await this.#options.files.read(node.path)).aterm;
    if (node.aterm !== null) this.#keptBytes -= node.aterm.length;
    node.aterm = null;
    node.given = node.isExpanded ? "expanded" : "pruned";
    const { path: drvPath, inputSources } = node;
    return { drvPath, aterm, pruned: !node.isExpanded, inputSources, ...hashField(node) };
  }

  #limit(count: number): void {
    if (count <= this.#options.derivationsMax) return;
    throw new EvaluationError(
      "too_many_derivations",
      `the evaluation needs more than ${this.#options.derivationsMax} derivations: narrow the patterns`,
    );
  }
}
