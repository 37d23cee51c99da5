import { EvaluationError } from "./errors.ts";

/** An input that is read from the machine that evaluates. */
export interface LocalInput {
  readonly input: string;
  readonly location: string;
}

export const LOCK_BYTES_MAX: number = 16 * 1024 * 1024;

/** `hg+http` and the like too, and `user@host:path` as git takes it. */
const REMOTE_URL = /^(?:[a-z]+\+)?(?:https?|ssh|git):\/\/|^[\w.-]+@[\w.-]+:/i;
/** Fetched from a forge over https, or named in a registry that is empty here. */
const REMOTE_TYPES: readonly unknown[] = ["github", "gitlab", "sourcehut", "indirect"];
const URL_TYPES: readonly unknown[] = ["git", "hg", "tarball", "file"];

/**
 * The inputs in a flake.lock (versions 5 to 7) that are local and lie outside of the flake, and those of a kind that is
 * not known. Throws `EvaluationError` for what cannot be read: Nix may be able to read it.
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

/** Inputs that are folders of the flake and known by their hash, as versions before 2.26 write them. */
export function findRelativeInputs(text: string): string[] {
  const nodes = Object.values(parseNodes(text)).map((node) => node?.locked as Readonly<Record<string, unknown>> | null);
  return nodes.flatMap((locked) => {
    const { type, path, narHash } = locked ?? {};
    const isKnown = type === "path" && typeof path === "string" && typeof narHash === "string";
    return isKnown && isInside(path) ? [path] : [];
  });
}

/** Throws `EvaluationError` (`local_source_refused`) when there are such inputs. */
export function refuseLocalInputs(text: string, isExempt: (input: string) => boolean = () => false): void {
  const local = findLocalInputs(text).find(({ input }) => !isExempt(input));
  if (!local) return;
  throw new EvaluationError(
    "local_source_refused",
    `the flake's input ${local.input} points to ${local.location} on the machine that evaluates: ` +
      "use a repository that every worker can reach",
  );
}

interface LockNode {
  readonly locked?: unknown;
}

function parseNodes(text: string): Record<string, LockNode | null> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw unreadable(cause);
  }
  const { nodes } = (value ?? {}) as { nodes?: unknown };
  if (typeof nodes !== "object" || nodes === null) throw unreadable();
  return nodes as Record<string, LockNode | null>;
}

function unreadable(cause?: unknown): EvaluationError {
  const advice = "run `nix flake lock` and commit the result";
  return new EvaluationError("flake_broken", `flake.lock cannot be read: ${advice}`, { cause });
}

function localLocation(reference: unknown): string | null {
  if (typeof reference !== "object" || reference === null) return null;
  const { type, path, url } = reference as Record<string, unknown>;
  if (type === "path" && typeof path === "string") return isInside(path) ? null : `path:${path}`;
  if (REMOTE_TYPES.includes(type) && url === undefined) return null;
  if (URL_TYPES.includes(type) && typeof url === "string" && REMOTE_URL.test(url)) return null;
  return typeof url === "string" ? url.slice(0, 200) : `something of the kind ${JSON.stringify(type)?.slice(0, 80)}`;
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
