/** An input that is read from the machine that evaluates. */
export interface LocalInput {
  readonly input: string;
  readonly location: string;
}

/**
 * The inputs in a flake.lock (versions 5 to 7) that are local and lie outside of the flake. What is no such file has
 * none: Nix says what is wrong with it.
 */
export function findLocalInputs(text: string): LocalInput[] {
  const nodes = parseNodes(text);
  const found: LocalInput[] = [];
  for (const [input, node] of Object.entries(nodes)) {
    const location = localLocation(node?.locked);
    if (location !== null) found.push({ input, location });
  }
  return found;
}

interface LockNode {
  readonly locked?: unknown;
}

function parseNodes(text: string): Record<string, LockNode | null> {
  try {
    const { nodes } = JSON.parse(text) as { nodes?: unknown };
    return typeof nodes === "object" && nodes !== null ? (nodes as Record<string, LockNode | null>) : {};
  } catch {
    return {};
  }
}

function localLocation(reference: unknown): string | null {
  if (typeof reference !== "object" || reference === null) return null;
  const { type, path, url } = reference as Record<string, unknown>;
  if (type === "path" && typeof path === "string") return isInside(path) ? null : `path:${path}`;
  if (typeof url === "string" && (/^(?:[a-z]+\+)?file:/i.test(url) || url.startsWith("/"))) return url;
  return null;
}

/** A relative path that does not climb out of the flake. */
function isInside(path: string): boolean {
  if (path.startsWith("/")) return false;
  let depth = 0;
  for (const name of path.split("/")) {
    if (name === "..") depth--;
    else if (name !== "" && name !== ".") depth++;
    if (depth < 0) return false;
  }
  return true;
}
