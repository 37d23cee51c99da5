import { type Kysely, sql } from "kysely";
import type { Database } from "#core/db/schema.ts";

/** Rows in each table, of which each parent has four. */
const ROWS = 1_000;
const PARENTS = ROWS / 4;
/** How many times as many PostgreSQL believes there are: what a plan weighs is what it believes. */
const BELIEVED = 2_000;
/** One row in so many is of the rare kind: not ended, due, revoked. */
const RARE = 100;

interface Column {
  readonly table: string;
  readonly name: string;
  readonly type: string;
  readonly is_nullable: boolean;
  readonly default_value: string | null;
  /** The table that a uuid names a row of. */
  readonly parent: string | null;
  /** Whether no two rows have the same. */
  readonly is_unique: boolean;
}

/**
 * Fills all tables but the given ones with made-up rows and tells PostgreSQL that there are two million in each. Most
 * rows are of the usual kind (ended, delivered, valid for long), and each value of a column has few rows, so that an
 * index is worth it wherever there is one. The rows obey no checks, so this is a database to explain statements in,
 * nothing else.
 */
export async function fillTables(db: Kysely<Database>, except: ReadonlySet<string>): Promise<void> {
  const tables = Map.groupBy(await readColumns(db), ({ table }) => table);
  await db.connection().execute(async (connection) => {
    await sql`set session_replication_role = replica`.execute(connection);
    for (const [table, columns] of tables) {
      if (except.has(table)) continue;
      await dropChecks(connection, table);
      await sql`alter table ${sql.table(table)} set (autovacuum_enabled = false)`.execute(connection);
      const names = sql.join(columns.map(({ name }) => sql.ref(name)));
      const values = sql.join(columns.map((column, i) => sql.raw(madeUpValue(column, i))));
      await sql`insert into ${sql.table(table)} (${names})
        select ${values} from generate_series(0, ${sql.lit(ROWS - 1)}) n on conflict do nothing`.execute(connection);
    }
    await sql`set session_replication_role = origin`.execute(connection);
    await sql`vacuum analyze`.execute(connection);
    await sql`
      update pg_class c set reltuples = c.reltuples * ${sql.lit(BELIEVED)}
      from pg_class t left join pg_index i on i.indrelid = t.oid
      where t.relnamespace = 'public'::regnamespace and t.relkind = 'r' and c.oid in (t.oid, i.indexrelid)
        and t.relname <> all(${[...except]})`.execute(connection);
  });
}

async function readColumns(db: Kysely<Database>): Promise<Column[]> {
  const { rows } = await sql<Column>`
    select c.relname as table, a.attname as name, format_type(a.atttypid, null) as type,
      not a.attnotnull as is_nullable, pg_get_expr(d.adbin, d.adrelid) as default_value,
      (select f.confrelid::regclass::text from pg_constraint f
        where f.conrelid = c.oid and f.contype = 'f' and f.conkey = array[a.attnum] limit 1) as parent,
      exists (select from pg_index i where i.indrelid = c.oid and i.indisunique and i.indnatts = 1
        and i.indkey[0] = a.attnum) as is_unique
    from pg_class c join pg_attribute a on a.attrelid = c.oid
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname not like 'kysely%'
      and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = ''
    order by c.relname, a.attnum`.execute(db);
  return rows;
}

async function dropChecks(db: Kysely<Database>, table: string): Promise<void> {
  const { rows } = await sql<{ name: string }>`
    select conname as name from pg_constraint
    where conrelid = ${table}::regclass and contype = 'c'`.execute(db);
  for (const { name } of rows) {
    await sql`alter table ${sql.table(table)} drop constraint ${sql.ref(name)}`.execute(db);
  }
}

/** An expression of `n`, the number of the row; `i` tells the columns of a table apart. */
function madeUpValue({ table, name, type, is_nullable, default_value, parent, is_unique }: Column, i: number): string {
  const isRare = `n % ${RARE} = 0`;
  switch (type) {
    case "uuid":
      if (name === "id" && parent === null) return idOf(table, "n");
      return idOf(parent ?? name, is_unique ? "n" : `(n + ${i} * (n / ${PARENTS})) % ${PARENTS}`);
    case "text":
      return "lpad(n::text, 32, '0')";
    case "bytea":
      return "decode(lpad(to_hex(n), 64, '0'), 'hex')";
    case "boolean": {
      const usual = default_value === "true";
      return `case when ${isRare} then ${!usual} else ${usual} end`;
    }
    case "smallint":
      // Of evaluations and builds 5 is an end.
      return name === "status" ? `case when ${isRare} then n / ${RARE} % 10 else 5 end` : "1 + n % 3";
    case "jsonb":
      return is_nullable ? "null" : "'{}'";
    case "timestamp with time zone":
      return timeOf(name, is_nullable);
    case "text[]":
      return `array[lpad((n % ${PARENTS})::text, 32, '0')]`;
    case "uuid[]":
      return `array[${idOf("organization", `n % ${PARENTS}`)}]`;
    case "bigint[]":
      return "array[n]";
    case "integer":
    case "bigint":
      return default_value === null ? "n" : `case when ${isRare} then n else ${default_value} end`;
    default:
      throw new Error(`${table}.${name}: no made-up value for ${type}`);
  }
}

function timeOf(name: string, isNullable: boolean): string {
  const past = "now() - n * interval '5 minutes'";
  if (/^(?:expires|lease_expires|due|retry|deadline|dial)_/.test(name)) {
    return `case when n % ${RARE} = 0 then ${past} else now() + n * interval '5 minutes' end`;
  }
  if (!isNullable) return past;
  const isUsual = /^(?:finished|delivered|disconnected|dispatched|started|sent)_/.test(name);
  return `case when n % ${RARE} ${isUsual ? "<>" : "="} 0 then ${past} end`;
}

function idOf(table: string, n: string): string {
  return `md5('${table}' || (${n}))::uuid`;
}
