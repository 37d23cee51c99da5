import pg from "pg";

/** Statements that a connection keeps prepared. Ours are some hundred; lists of values make more of them. */
const STATEMENTS_MAX = 500;

const names = new Map<string, string>();

/**
 * A connection that lets the server keep each statement it has parsed and planned: a fifth to a half of the cost of the
 * short statements that we send. Statements beyond the first 500 texts, and those without parameters, go as they are.
 */
export class PreparingClient extends pg.Client {
  // The signatures of the base class are many; only the one with text and values is changed.
  override query(...args: unknown[]): never {
    const [text, values, ...rest] = args;
    const name = typeof text === "string" && Array.isArray(values) && values.length > 0 ? nameOf(text) : null;
    const call = pg.Client.prototype.query as (this: pg.Client, ...args: unknown[]) => never;
    return name === null ? call.apply(this, args) : call.call(this, { name, text, values }, ...rest);
  }
}

function nameOf(text: string): string | null {
  const known = names.get(text);
  if (known !== undefined) return known;
  if (names.size >= STATEMENTS_MAX) return null;
  const name = `gradient_${names.size + 1}`;
  names.set(text, name);
  return name;
}
