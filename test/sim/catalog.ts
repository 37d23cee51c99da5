import type pg from "pg";

/** What a statement does, as far as its text and the catalog say it. */
export interface Statement {
  readonly name: string;
  /** Changes rows of which something is promised. */
  readonly writes: boolean;
  /** Its answer follows from the rows of `reads` and its values alone; `null` when it does not. */
  readonly reads: readonly string[] | null;
  /** Tables whose rows it may change, by itself, by triggers and by cascades; `null` is any. */
  readonly changes: readonly string[] | null;
  /** It changes rows of one table, at one place. */
  readonly isOne: boolean;
  /** What it does may depend on what time it is. */
  readonly asksTime: boolean;
}

const WRITES = /\b(insert into|delete from|update "?\w+"? (\w+ )?set)\b/i;
/** Signs of life, which break no promise: there is nothing to look at after them. */
const SIGN_OF_LIFE =
  /^\s*(update "?(attempt|worker_connection)"? set "?(lease_expires_at|last_seen_at)|insert into server )/i;
const TARGET = /\b(?:insert into|merge into|delete from|update)\s+(?:only\s+)?"?(\w+)"?/gi;
const DELETES = /\b(?:delete from|merge into)\b/i;
const READ = /^\s*(?:select|with)\b/i;
const TRANSACTION = /^\s*(?:begin|commit|rollback|savepoint|release)\b/i;
const CLOCK = /\b(?:current_(?:timestamp|time|date)|localtime(?:stamp)?|now|(?:transaction|statement)_timestamp)\b/i;
/** What an update sets is not asked when it finds no row. */
const SET = /\bset\b.*?\bwhere\b/is;

/** Reads the catalog: which tables are there, what follows a change of each, and which functions are not pure. */
export class Catalog {
  readonly #tables: ReadonlySet<string>;
  readonly #impure: ReadonlySet<string>;
  readonly #triggered: ReadonlyMap<string, readonly string[]>;
  readonly #cascaded: ReadonlyMap<string, readonly string[]>;
  readonly #statements = new Map<string, Statement>();

  private constructor(rows: CatalogRows) {
    this.#tables = new Set(rows.tables);
    this.#impure = new Set(rows.impure);
    const triggered = rows.triggers.map(([table, source]) => [table, this.#mentioned(source)] as const);
    this.#triggered = grouped(triggered);
    this.#cascaded = grouped(rows.cascades.map(([parent, child]) => [parent, [child]] as const));
  }

  static async read(client: pg.Client): Promise<Catalog> {
    const { rows } = await client.query<CatalogRows>(CATALOG);
    return new Catalog(rows[0] as CatalogRows);
  }

  statement(text: string): Statement {
    const known = this.#statements.get(text);
    if (known) return known;
    const statement = this.#describe(text, `statement ${this.#statements.size}`);
    this.#statements.set(text, statement);
    return statement;
  }

  #describe(text: string, name: string): Statement {
    const targets = Array.from(text.matchAll(TARGET), ([, table = ""]) => table).filter((one) => this.#tables.has(one));
    const isRead = READ.test(text) && !WRITES.test(text);
    const isOne = targets.length === 1;
    // Of a statement that changes rows only the answer that there were none can be given again.
    const asked = isOne ? text.replace(SET, "") : text;
    const isPure = (isRead || isOne) && this.#isPure(asked);
    return {
      name,
      writes: WRITES.test(text) && !SIGN_OF_LIFE.test(text),
      reads: isPure ? this.#mentioned(text) : null,
      changes: isRead || TRANSACTION.test(text) ? [] : targets.length > 0 ? this.#after(targets, text) : null,
      isOne,
      asksTime: !(isRead && isPure) && !TRANSACTION.test(text),
    };
  }

  #isPure(text: string): boolean {
    if (CLOCK.test(text) || /\bpg_/i.test(text)) return false;
    return !Array.from(text.matchAll(/\b(\w+)\s*\(/g), ([, name = ""]) => name.toLowerCase()).some((name) =>
      this.#impure.has(name),
    );
  }

  #mentioned(text: string): string[] {
    return [...new Set(text.match(/\w+/g))].filter((word) => this.#tables.has(word));
  }

  #after(targets: readonly string[], text: string): string[] {
    const deletes = DELETES.test(text);
    const reached = new Set(targets);
    // Grows while it is gone through.
    for (const table of reached) {
      for (const next of this.#triggered.get(table) ?? []) reached.add(next);
      if (deletes) for (const next of this.#cascaded.get(table) ?? []) reached.add(next);
    }
    return [...reached];
  }
}

interface CatalogRows {
  readonly tables: readonly string[];
  readonly impure: readonly string[];
  readonly triggers: readonly (readonly [string, string])[];
  readonly cascades: readonly (readonly [string, string])[];
}

const CATALOG = `select
  (select jsonb_agg(relname) from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'p')) as tables,
  (select jsonb_agg(distinct proname) from pg_proc
    where provolatile = 'v' or (provolatile <> 'i' and pronamespace = 'public'::regnamespace)) as impure,
  (select coalesce(jsonb_agg(jsonb_build_array(c.relname, p.prosrc)), '[]')
    from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_proc p on p.oid = t.tgfoid
    where not t.tgisinternal) as triggers,
  (select coalesce(jsonb_agg(jsonb_build_array(parent.relname, child.relname)), '[]')
    from pg_constraint k join pg_class parent on parent.oid = k.confrelid join pg_class child on child.oid = k.conrelid
    where k.contype = 'f') as cascades`;

function grouped(pairs: readonly (readonly [string, readonly string[]])[]): Map<string, readonly string[]> {
  const groups = new Map<string, readonly string[]>();
  for (const [key, values] of pairs) groups.set(key, [...(groups.get(key) ?? []), ...values]);
  return groups;
}
