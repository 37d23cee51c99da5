import type { StorePath } from "../store-path.ts";

/**
 * What can be asked to be built: outputs of a derivation, or a plain store path that is to be substituted. On the
 * wire `/nix/store/H-x.drv!out,dev`, `/nix/store/H-x.drv!*` or the path.
 */
export interface DerivedPath {
  readonly path: StorePath;
  /** Null for a plain path. A `.drv` without outputs means the file itself, not a build. */
  readonly outputs: readonly string[] | "all" | null;
}

export function formatDerivedPath({ path, outputs }: DerivedPath): string {
  if (outputs === null) return path;
  return `${path}!${outputs === "all" ? "*" : [...outputs].sort().join(",")}`;
}
