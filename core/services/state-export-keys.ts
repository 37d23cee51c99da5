import type { NixValue } from "../domain/nix-text.ts";

export interface ExportedEntry {
  /** What it may be called in the map: its name, and where another thing has that name too, a longer one. */
  readonly keys: readonly [string, ...string[]];
  readonly value: NixValue;
}

/** A map in which each entry has a key of its own: things of one name in two organizations would else be one. */
export function distinctKeys(entries: readonly ExportedEntry[]): Readonly<Record<string, NixValue>> {
  const uses = new Map<string, number>();
  for (const { keys } of entries) uses.set(keys[0], (uses.get(keys[0]) ?? 0) + 1);
  const taken = new Set<string>();
  const named = entries.map(({ keys, value }): [string, NixValue] => {
    const [short, ...longer] = keys;
    const wanted = uses.get(short) === 1 ? short : (longer[0] ?? short);
    let key = wanted;
    for (let number = 2; taken.has(key) || (key !== short && uses.has(key)); number++) key = `${wanted}-${number}`;
    taken.add(key);
    return [key, value];
  });
  return Object.fromEntries(named.sort(([a], [b]) => (a < b ? -1 : 1)));
}
