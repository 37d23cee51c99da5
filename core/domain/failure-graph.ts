/** What is red below what was asked for, in numbers from 0. An edge leads from what was not tried to what it needs. */
export interface FailureGraph {
  readonly size: number;
  /** Builds that were asked for, by id. */
  readonly tops: ReadonlyMap<string, number>;
  /** Those that failed themselves. */
  readonly causes: readonly { readonly id: string; readonly node: number }[];
  readonly sources: readonly number[];
  readonly targets: readonly number[];
}

const WORD_BITS = 32;

/**
 * Which causes each build that was asked for is red because of: their places in `causes`. Each edge is looked at once,
 * however many ways lead from a build to a cause.
 */
export function findCauses(graph: FailureGraph): (topId: string) => number[] {
  const words = Math.ceil(graph.causes.length / WORD_BITS);
  const sets = new Uint32Array(graph.size * words);
  for (const [place, { node }] of graph.causes.entries()) {
    const word = node * words + Math.floor(place / WORD_BITS);
    sets[word] = (sets[word] ?? 0) | (1 << (place % WORD_BITS));
  }
  const { first, targets } = edgesBySource(graph);
  for (const node of dependenciesFirst(graph, first, targets)) {
    for (let edge = first[node] ?? 0; edge < (first[node + 1] ?? 0); edge++) {
      const below = (targets[edge] ?? 0) * words;
      for (let word = 0; word < words; word++) {
        sets[node * words + word] = (sets[node * words + word] ?? 0) | (sets[below + word] ?? 0);
      }
    }
  }
  return (topId) => {
    const node = graph.tops.get(topId);
    if (node === undefined) return [];
    const places: number[] = [];
    for (let word = 0; word < words; word++) {
      // From the lowest bit that is set to the next one.
      for (let bits = sets[node * words + word] ?? 0; bits !== 0; bits &= bits - 1) {
        places.push(word * WORD_BITS + (WORD_BITS - 1 - Math.clz32(bits & -bits)));
      }
    }
    return places;
  };
}

interface Edges {
  /** Of the node `n`, those from `first[n]` up to, and without, `first[n + 1]`. */
  readonly first: Int32Array;
  readonly targets: Int32Array;
}

function edgesBySource({ size, sources, targets }: FailureGraph): Edges {
  const first = new Int32Array(size + 1);
  for (const source of sources) first[source + 1] = (first[source + 1] ?? 0) + 1;
  for (let node = 0; node < size; node++) first[node + 1] = (first[node + 1] ?? 0) + (first[node] ?? 0);
  const next = first.slice();
  const sorted = new Int32Array(targets.length);
  for (const [index, source] of sources.entries()) {
    const place = next[source] ?? 0;
    sorted[place] = targets[index] ?? 0;
    next[source] = place + 1;
  }
  return { first, targets: sorted };
}

/** Every node behind all that its edges lead to. */
function dependenciesFirst({ size }: FailureGraph, first: Int32Array, targets: Int32Array): Int32Array {
  const order = new Int32Array(size);
  const next = first.slice();
  const seen = new Uint8Array(size);
  let count = 0;
  for (let start = 0; start < size; start++) {
    const stack = seen[start] ? [] : [start];
    seen[start] = 1;
    for (let node = stack.at(-1); node !== undefined; node = stack.at(-1)) {
      const edge = next[node] ?? 0;
      if (edge === first[node + 1]) {
        order[count++] = node;
        stack.pop();
        continue;
      }
      next[node] = edge + 1;
      const target = targets[edge] ?? 0;
      if (!seen[target]) stack.push(target);
      seen[target] = 1;
    }
  }
  return order;
}
