/** A file and the files it imports. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/**
 * One cycle for each knot of files that reach each other, as the path around it without the repeated first file. Files
 * are visited in the order of the map, so that the answer is the same every time.
 */
export function findImportCycles(graph: ImportGraph): string[][] {
  const cycles: string[][] = [];
  const finished = new Set<string>();
  const path: string[] = [];

  const visit = (file: string) => {
    const seenAt = path.indexOf(file);
    if (seenAt !== -1) {
      cycles.push(path.slice(seenAt));
      return;
    }
    if (finished.has(file)) return;
    path.push(file);
    for (const next of graph.get(file) ?? []) visit(next);
    path.pop();
    finished.add(file);
  };

  for (const file of graph.keys()) visit(file);
  return cycles;
}
