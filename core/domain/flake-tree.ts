import type { FlakeNodeView } from "../api/closures.ts";
import { formatAttributePath } from "../nix/attribute-path.ts";

/** Attribute paths with all that they lie in, as a tree by path: parents come before their children. */
export function flakeTree(
  derivations: readonly { readonly attribute: readonly string[]; readonly derivation: string }[],
  broken: readonly (readonly string[])[],
): FlakeNodeView[] {
  const nodes = new Map<string, FlakeNodeView>();
  const add = (attribute: readonly string[], kind: FlakeNodeView["kind"], derivation: string | null): void => {
    for (let length = 1; length < attribute.length; length++) {
      const set = viewNode(attribute.slice(0, length), "attrset", null);
      if (!nodes.has(set.path)) nodes.set(set.path, set);
    }
    if (attribute.length === 0) return;
    const node = viewNode(attribute, kind, derivation);
    const before = nodes.get(node.path);
    if (!before || before.kind === "attrset") nodes.set(node.path, node);
  };
  for (const { attribute, derivation } of derivations) add(attribute, "derivation", derivation);
  for (const attribute of broken) add(attribute, "error", null);
  return [...nodes.values()];
}

function viewNode(attribute: readonly string[], kind: FlakeNodeView["kind"], derivation: string | null): FlakeNodeView {
  return {
    path: formatAttributePath(attribute),
    parent: attribute.length === 1 ? null : formatAttributePath(attribute.slice(0, -1)),
    name: attribute.at(-1) ?? "",
    kind,
    is_derivation: kind === "derivation",
    drv_path: derivation,
  };
}
