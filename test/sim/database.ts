import type { Socket } from "node:net";
import {
  CompiledQuery,
  type DatabaseConnection,
  type Driver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
} from "kysely";
import pg from "pg";
import type { Database } from "#core/db/schema.ts";
import { clientConfig } from "#runtime/node/pool.ts";
import type { DatabaseAddress } from "#runtime/node/postgres/start.ts";
import type { Random } from "./random.ts";
import type { SimulatedProcess, Simulator } from "./simulator.ts";

/** How the way to the database is at the moment. */
export interface DatabaseWeather {
  /** Longest time to reach it, and longest time until its answer is back. */
  latencyMs: number;
  /** Nobody reaches it. */
  down: boolean;
  /** How often a connection is lost: before a transaction, before its commit, or after it. */
  loss: number;
  /** How often a transaction is rolled back because of another. */
  conflict: number;
}

/** Statistics that come at some time of the machine's would change plans, and with them the order of rows. */
const WITHOUT_VACUUM = `do $$ declare name text; begin
  for name in select quote_ident(tablename) from pg_tables where schemaname = 'public' loop
    execute 'alter table ' || name || ' set (autovacuum_enabled = false)';
  end loop; end $$`;

const WRITES = /\b(insert into|delete from|update "?\w+"? (\w+ )?set)\b/i;
/** Signs of life, which break no promise: there is nothing to look at after them. */
const SIGN_OF_LIFE =
  /^\s*(update "?(attempt|worker_connection)"? set "?(lease_expires_at|last_seen_at)|insert into server )/i;

interface Statement {
  readonly name: string;
  readonly writes: boolean;
}

type Fate = "fine" | "lost before" | "lost after" | "conflict";

/**
 * The real PostgreSQL behind one connection: transactions come one after the other, each within one instant of
 * simulated time, which is the time that `gradient_now()` tells. Between a process and the database time passes, so
 * that anything may happen before a transaction begins and before its outcome is known.
 */
export class SimulatedDatabase {
  readonly weather: DatabaseWeather = { latencyMs: 4, down: false, loss: 0, conflict: 0 };
  /** Grows with every statement that changed rows of which something is promised. */
  changes = 0;
  readonly #simulator: Simulator;
  readonly #client: pg.Client;
  readonly #random: Random;
  readonly #waiting: (() => void)[] = [];
  #taken = false;
  readonly #statements = new Map<string, Statement>();
  /** What goes to PostgreSQL ahead of the next statement, without a way there and back of its own. */
  readonly #ahead: { readonly text: string; readonly values: readonly unknown[] }[] = [];
  readonly #stream: Socket;
  #toldMs = -1;

  private constructor(simulator: Simulator, client: pg.Client, random: Random) {
    this.#stream = (client as unknown as { connection: { stream: Socket } }).connection.stream;
    this.#simulator = simulator;
    this.#client = client;
    this.#random = random;
  }

  static async connect(simulator: Simulator, address: DatabaseAddress, random: Random): Promise<SimulatedDatabase> {
    const client = new pg.Client({ ...clientConfig(address, "simulation"), pipeline: true });
    await client.connect();
    await client.query(WITHOUT_VACUUM);
    return new SimulatedDatabase(simulator, client, random);
  }

  async close(): Promise<void> {
    await this.#client.end();
  }

  /** The database as a process sees it. Without a process: at once and without faults, for whoever looks on. */
  open(process: SimulatedProcess | null): Kysely<Database> {
    const driver = new SimulatedDriver(this, process);
    return new Kysely<Database>({
      dialect: {
        createAdapter: () => new PostgresAdapter(),
        createDriver: () => driver,
        createIntrospector: (db) => new PostgresIntrospector(db),
        createQueryCompiler: () => new PostgresQueryCompiler(),
      },
    });
  }

  /** A transaction is open. */
  get taken(): boolean {
    return this.#taken;
  }

  delay(): number {
    const { latencyMs } = this.weather;
    // Mostly fast: the slow ones are what lets others in between.
    return Math.floor(latencyMs * this.#random.next() ** 4);
  }

  fate(): Fate {
    const { loss, conflict } = this.weather;
    if (this.#random.chance(conflict)) return "conflict";
    if (!this.#random.chance(loss)) return "fine";
    return this.#random.chance(0.5) ? "lost before" : "lost after";
  }

  async take(): Promise<void> {
    if (this.#taken) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#taken = true;
    const { nowMs } = this.#simulator;
    if (this.#toldMs === nowMs) return;
    this.#toldMs = nowMs;
    this.sendAhead("select set_config('gradient.now', $1, false)", [new Date(nowMs).toISOString()]);
  }

  /** For what cannot fail and answers nothing. */
  sendAhead(text: string, values: readonly unknown[] = []): void {
    this.#ahead.push({ text, values });
  }

  giveBack(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#taken = false;
  }

  /** The same text is parsed and planned once. */
  #statement(text: string): Statement {
    const known = this.#statements.get(text);
    if (known) return known;
    const writes = WRITES.test(text) && !SIGN_OF_LIFE.test(text);
    const statement = { name: `statement ${this.#statements.size}`, writes };
    this.#statements.set(text, statement);
    return statement;
  }

  #send(text: string, values: readonly unknown[]): Promise<pg.QueryResult> {
    return this.#client.query({ name: this.#statement(text).name, text, values: [...values] });
  }

  async query(text: string, values: readonly unknown[]): Promise<pg.QueryResult> {
    return await this.#simulator.outside(async () => {
      const { writes } = this.#statement(text);
      this.#stream.cork();
      const all = [...this.#ahead.splice(0), { text, values }].map((one) => this.#send(one.text, one.values));
      this.#stream.uncork();
      const result = (await Promise.all(all)).at(-1) as pg.QueryResult;
      if (writes && (result.rowCount ?? 0) > 0) this.changes++;
      return result;
    });
  }
}

class Connection implements DatabaseConnection {
  fate: Fate = "fine";
  inTransaction = false;
  readonly #database: SimulatedDatabase;

  constructor(database: SimulatedDatabase) {
    this.#database = database;
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const isAlone = !this.inTransaction;
    if (isAlone && this.fate === "lost before") throw lost();
    const { command, rowCount, rows } = await this.#database.query(sql, parameters);
    if (isAlone && this.fate === "lost after") throw lost();
    const counts = command === "INSERT" || command === "UPDATE" || command === "DELETE";
    return { rows: rows as R[], ...(counts && { numAffectedRows: BigInt(rowCount ?? 0) }) };
  }

  // biome-ignore lint/correctness/useYield: nothing in this product streams rows.
  async *streamQuery(): AsyncGenerator<never> {
    throw new Error("rows are not streamed");
  }
}

class SimulatedDriver implements Driver {
  readonly #database: SimulatedDatabase;
  readonly #process: SimulatedProcess | null;

  constructor(database: SimulatedDatabase, process: SimulatedProcess | null) {
    this.#database = database;
    this.#process = process;
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    const connection = new Connection(this.#database);
    if (this.#process) {
      await this.#process.pause(this.#database.delay());
      if (this.#database.weather.down) throw failure("connect ECONNREFUSED", "ECONNREFUSED");
      connection.fate = this.#database.fate();
    }
    await this.#database.take();
    return connection;
  }

  async beginTransaction(connection: Connection): Promise<void> {
    this.#database.sendAhead("begin");
    connection.inTransaction = true;
  }

  async commitTransaction(connection: Connection): Promise<void> {
    if (connection.fate === "lost before") throw lost();
    if (connection.fate === "conflict") throw failure("could not serialize access", "40001");
    await connection.executeQuery(CompiledQuery.raw("commit"));
    connection.inTransaction = false;
    if (connection.fate === "lost after") throw lost();
  }

  async rollbackTransaction(connection: Connection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw("rollback"));
    connection.inTransaction = false;
  }

  async releaseConnection(): Promise<void> {
    this.#database.giveBack();
    // The outcome is on its way back.
    await this.#process?.pause(this.#database.delay());
  }

  async destroy(): Promise<void> {}
}

function lost(): Error {
  return failure("Connection terminated unexpectedly", "08006");
}

function failure(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}
