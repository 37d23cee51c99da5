import { readdirSync, readlinkSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

const LINKS_MAX = 10;

/**
 * The store path that a link leads to, through links of its own kind (a profile has two). It need not exist at that
 * very place: the store of tests lies elsewhere. Null: there is no link.
 */
export function linkTarget(path: string): string | null {
  let at = path;
  for (let i = 0; i < LINKS_MAX; i++) {
    try {
      at = resolve(dirname(at), readlinkSync(at));
    } catch {
      return null;
    }
    if (at.startsWith("/nix/store/")) return at;
  }
  return null;
}

/** The generations of a profile: their numbers and what they are. */
export function generations(profile: string): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  const folder = dirname(profile);
  const prefix = `${basename(profile)}-`;
  let names: readonly string[] = [];
  try {
    names = readdirSync(folder);
  } catch {
    return found;
  }
  for (const name of names) {
    if (!name.startsWith(prefix)) continue;
    const number = /^(\d{1,9})-link$/.exec(name.slice(prefix.length))?.[1];
    const target = number === undefined ? null : linkTarget(join(folder, name));
    if (target !== null) found.set(Number(number), target);
  }
  return found;
}
