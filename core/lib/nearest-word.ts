/** Edits up to which a word counts as a slip of a known one. */
const DISTANCE_MAX = 6;

/**
 * The known word that somebody most likely meant; null where none is near. `fixedLength` is the length of what all of
 * the words begin with.
 */
export function nearestWord(word: string, known: readonly string[], fixedLength = 0): string | null {
  let best: { readonly word: string; readonly distance: number } | null = null;
  for (const candidate of known) {
    const distance = editDistance(word, candidate);
    if (!best || distance < best.distance) best = { word: candidate, distance };
  }
  return best && best.distance <= Math.min(DISTANCE_MAX, (word.length - fixedLength) / 2) ? best.word : null;
}

/** Levenshtein's distance: insertions, deletions and replacements. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((previous[j] as number) + 1, (row[j - 1] as number) + 1, replaced));
    }
    previous = row;
  }
  return previous[b.length] as number;
}
