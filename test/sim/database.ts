import type { Socket } from "node:net";
import {
  type CompiledQuery,
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
import type { Catalog, Statement } from "./catalog.ts";
import type { Ground } from "./ground.ts";
import type { Random } from "./random.ts";
import { Repeats } from "./repeats.ts";
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

/** A statement is planned once a run, and nobody asks for statistics. */
const SETTINGS = "-c plan_cache_mode=force_generic_plan -c track_activities=off -c track_counts=off";

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
  /** A transaction begins with the next statement, without a way there and back of its own. */
  #begins = false;
  #inTransaction = false;
  readonly #stream: Socket;
  readonly #catalog: Catalog;
  readonly #repeats: Repeats | null;
  /** What the database believes. */
  #toldMs = -1;
  /** An error has ended the transaction; only a rollback is left. */
  #failed = false;

  private constructor(simulator: Simulator, client: pg.Client, random: Random, { catalog, recalls }: Ground) {
    this.#catalog = catalog;
    this.#repeats = recalls ? new Repeats() : null;
    this.#stream = (client as unknown as { connection: { stream: Socket } }).connection.stream;
    this.#simulator = simulator;
    this.#client = client;
    this.#random = random;
  }

  static async connect(simulator: Simulator, ground: Ground, random: Random): Promise<SimulatedDatabase> {
    const client = new pg.Client({ ...clientConfig(ground.address, "simulation"), pipeline: true, options: SETTINGS });
    await client.connect();
    return new SimulatedDatabase(simulator, client, random, ground);
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
  }

  /** Its first statement takes it along, without a way there and back of its own. */
  begin(): void {
    this.#begins = true;
    this.#inTransaction = true;
  }

  /** Ends a transaction. */
  async end(how: "commit" | "rollback"): Promise<void> {
    const isEmpty = this.#begins;
    this.#begins = false;
    this.#inTransaction = false;
    if (isEmpty) return await this.#simulator.outside(anInstant);
    if (how === "rollback") {
      this.#failed = false;
      this.#repeats?.changed(null);
      // The time that it was told inside is taken back, too.
      this.#toldMs = -1;
    }
    await this.query(how, []);
  }

  giveBack(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#taken = false;
  }

  #send(text: string, values: readonly unknown[]): Promise<pg.QueryResult> {
    return this.#client.query({ name: this.#catalog.statement(text).name, text, values: [...values] });
  }

  async query(text: string, values: readonly unknown[]): Promise<pg.QueryResult> {
    return await this.#simulator.outside(async () => {
      const statement = this.#catalog.statement(text);
      const key = statement.reads ? `${statement.name} ${JSON.stringify(values)}` : "";
      const repeated = this.#failed ? null : this.#repeats?.recall(statement, key);
      if (repeated) {
        await anInstant();
        return repeated;
      }
      const result = await this.#ask(statement, text, values);
      this.#repeats?.learn(statement, key, result);
      if (statement.writes && (result.rowCount ?? 0) > 0) this.changes++;
      return result;
    });
  }

  async #ask({ asksTime }: Statement, text: string, values: readonly unknown[]): Promise<pg.QueryResult> {
    const { nowMs } = this.#simulator;
    this.#stream.cork();
    const all: Promise<pg.QueryResult>[] = [];
    if (asksTime && this.#toldMs !== nowMs) {
      this.#toldMs = nowMs;
      all.push(this.#send("select set_config('gradient.now', $1, false)", [new Date(nowMs).toISOString()]));
    }
    if (this.#begins) all.push(this.#send("begin", []));
    this.#begins = false;
    all.push(this.#send(text, values));
    this.#stream.uncork();
    try {
      return (await Promise.all(all)).at(-1) as pg.QueryResult;
    } catch (error) {
      this.#failed = this.#inTransaction;
      this.#repeats?.changed(null);
      throw error;
    }
  }
}

/** An answer comes after everything else that happens in its instant, as from the database. */
function anInstant(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
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
    this.#database.begin();
    connection.inTransaction = true;
  }

  async commitTransaction(connection: Connection): Promise<void> {
    if (connection.fate === "lost before") throw lost();
    if (connection.fate === "conflict") throw failure("could not serialize access", "40001");
    await this.#database.end("commit");
    connection.inTransaction = false;
    if (connection.fate === "lost after") throw lost();
  }

  async rollbackTransaction(connection: Connection): Promise<void> {
    await this.#database.end("rollback");
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
