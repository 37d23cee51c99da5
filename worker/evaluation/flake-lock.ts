import { EvaluationError } from "./errors.ts";

/** A flake.lock as far as it is looked at (versions 5 to 7). */
export interface FlakeLock {
  /** As it is written to a file. */
  readonly text: string;
  readonly root: string;
  readonly nodes: Readonly<Record<string, FlakeLockNode>>;
}

export interface FlakeLockNode {
  /** By its name in the flake: another node, or the path of the input that it follows. */
  readonly inputs: Readonly<Record<string, string | readonly string[]>>;
  readonly locked: Readonly<Record<string, unknown>> | null;
  /** The reference as it was written. */
  readonly original: Readonly<Record<string, unknown>> | null;
  readonly isFlake: boolean;
}

/** Reads what Nix says the lock is. Throws `EvaluationError`. */
export function readFlakeLock(value: unknown): FlakeLock {
  const { root, nodes } = record(value);
  if (typeof root !== "string" || !isRecord(nodes)) throw unreadable();
  const read = Object.entries(nodes).map(([name, node]): [string, FlakeLockNode] => {
    const { inputs, locked, original, flake } = record(node);
    return [
      name,
      {
        inputs: isRecord(inputs) ? (inputs as FlakeLockNode["inputs"]) : {},
        locked: isRecord(locked) ? locked : null,
        original: isRecord(original) ? original : null,
        isFlake: flake !== false,
      },
    ];
  });
  return { text: `${JSON.stringify(value)}\n`, root, nodes: Object.fromEntries(read) };
}

/** The inputs that the flake itself names. */
export function rootInputs({ root, nodes }: FlakeLock): Readonly<Record<string, string | readonly string[]>> {
  return nodes[root]?.inputs ?? {};
}

/** Lock files of newer versions hold notes in references that no fetcher takes. */
export function withoutNotes(reference: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Object.entries(reference).filter(([name]) => !name.startsWith("__")));
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  if (!isRecord(value)) throw unreadable();
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function unreadable(): EvaluationError {
  return new EvaluationError("flake_broken", "the flake's lock cannot be read: run `nix flake lock` and commit it");
}
