import { redactUrl } from "#core/nix/flake-ref.ts";
import type { LockedInputField } from "#core/protocol/fields.ts";
import { LOCKED_INPUTS_MAX } from "#core/protocol/limits.ts";
import { type FlakeLock, type FlakeLockNode, readFlakeLock, rootInputs } from "./flake-lock.ts";

const TEXT_LENGTH_MAX = 1_000;
const NAME_LENGTH_MAX = 200;
/** The year 9999. */
const SECONDS_MAX = 253_402_300_799;

/**
 * What a flake's lock file says of the inputs that the flake itself names, for people to compare. Null where it cannot
 * be read: whoever needs it says why.
 */
export function lockedInputs(lock: string | null): LockedInputField[] | null {
  if (lock === null) return [];
  let parsed: FlakeLock;
  try {
    parsed = readFlakeLock(JSON.parse(lock));
  } catch {
    return null;
  }
  const inputs = Object.entries(rootInputs(parsed)).slice(0, LOCKED_INPUTS_MAX);
  return inputs.flatMap(([name, target]) => {
    const node = nodeOf(parsed, target);
    return node?.locked ? [describe(name, node.locked)] : [];
  });
}

/** A node's name, or the path of the input that it follows, from the root. */
function nodeOf({ root, nodes }: FlakeLock, target: string | readonly string[]): FlakeLockNode | undefined {
  let seen = 0;
  let name: string | readonly string[] | undefined = target;
  while (typeof name === "object") {
    let at = root;
    // An input that follows itself has no end.
    if (++seen > LOCKED_INPUTS_MAX || name.length === 0) return undefined;
    for (const [index, step] of name.entries()) {
      const next: string | readonly string[] | undefined = nodes[at]?.inputs[step];
      if (index === name.length - 1) {
        name = next;
        break;
      }
      if (typeof next !== "string") return undefined;
      at = next;
    }
  }
  return name === undefined ? undefined : nodes[name];
}

function describe(name: string, locked: Readonly<Record<string, unknown>>): LockedInputField {
  const { rev, lastModified } = locked;
  const modified = Number.isSafeInteger(lastModified) ? Number(lastModified) : -1;
  return {
    name: name.slice(0, NAME_LENGTH_MAX),
    source: redactUrl(sourceOf(locked)).slice(0, TEXT_LENGTH_MAX),
    revision: typeof rev === "string" ? rev.slice(0, NAME_LENGTH_MAX) : null,
    last_modified: modified >= 0 && modified <= SECONDS_MAX ? modified : null,
  };
}

function sourceOf({ type, owner, repo, host, url, path }: Readonly<Record<string, unknown>>): string {
  const kind = typeof type === "string" ? type : "unknown";
  if (typeof owner === "string" && typeof repo === "string") {
    return `${kind}:${owner}/${repo}${typeof host === "string" ? `?host=${host}` : ""}`;
  }
  if (typeof url === "string") return kind === "git" ? `git+${url}` : url;
  return typeof path === "string" ? `${kind}:${path}` : kind;
}
