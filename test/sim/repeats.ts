import type pg from "pg";
import type { Statement } from "./catalog.ts";

const CHANGED = new Set(["INSERT", "UPDATE", "DELETE"]);

type Answer = pg.QueryResult;

interface Known {
  readonly versions: readonly number[];
  readonly answer: Answer;
}

/**
 * Answers that would come again: the same question, of tables none of whose rows has changed since. Most of what an
 * installation asks while it waits is of this kind.
 */
export class Repeats {
  readonly #versions = new Map<string, number>();
  readonly #known = new Map<string, Known>();

  /** Null when only the database knows. */
  recall({ reads }: Statement, key: string): Answer | null {
    const known = reads && this.#known.get(key);
    if (!known || !reads.every((table, i) => this.#version(table) === known.versions[i])) return null;
    return { ...known.answer, rows: known.answer.rows.map((row: object) => ({ ...row })) };
  }

  /** Told of every answer. */
  learn({ reads, changes, isOne }: Statement, key: string, answer: Answer): void {
    const hasChanged =
      changes === null || (changes.length > 0 && !(isOne && CHANGED.has(answer.command) && answer.rowCount === 0));
    if (hasChanged) this.changed(changes);
    if (hasChanged || !reads || !answer.rows.every(freezeParts)) return;
    this.#known.set(key, { versions: reads.map((table) => this.#version(table)), answer });
  }

  changed(tables: readonly string[] | null): void {
    if (tables) for (const table of tables) this.#versions.set(table, this.#version(table) + 1);
    else this.#known.clear();
  }

  #version(table: string): number {
    return this.#versions.get(table) ?? 0;
  }
}

/** Whoever changes a part of a row would change it for the next one, too. False for what cannot be frozen. */
function freezeParts(row: Readonly<Record<string, unknown>>): boolean {
  return Object.values(row).every(freeze);
}

function freeze(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return true;
  if (value instanceof Date) return true;
  if (ArrayBuffer.isView(value)) return false;
  Object.freeze(value);
  return Object.values(value).every(freeze);
}
