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
import type { PoolClient } from "pg";
import type { Database } from "#core/db/schema.ts";
import type { Pool } from "#runtime/node/pool.ts";

/** A database in which whatever is done can be undone. */
export interface UndoableDatabase extends AsyncDisposable {
  readonly db: Kysely<Database>;
  /** Runs the action, and takes back all that it did to the database. One at a time. */
  undone<T>(action: () => Promise<T>): Promise<T>;
}

/** Told of each statement before it runs. */
export type StatementListener = (text: string, parameters: readonly unknown[]) => void;

const BASE = "savepoint_of_the_case";
const INNER = "savepoint_of_a_transaction";

/**
 * Everything goes over one connection, inside a transaction that never ends well: what the application takes for
 * transactions are savepoints. So each case of a long table begins with the same rows.
 */
export async function openUndoable(pool: Pool, onStatement: StatementListener = () => {}): Promise<UndoableDatabase> {
  const client = await pool.connect();
  const driver = new OneConnectionDriver(client, onStatement);
  const db = new Kysely<Database>({
    dialect: {
      createAdapter: () => new PostgresAdapter(),
      createDriver: () => driver,
      createIntrospector: (inner) => new PostgresIntrospector(inner),
      createQueryCompiler: () => new PostgresQueryCompiler(),
    },
  });
  return {
    db,
    undone: async (action) => {
      await client.query(`begin; savepoint ${BASE}`);
      try {
        return await action();
      } finally {
        await client.query("rollback");
      }
    },
    [Symbol.asyncDispose]: async () => {
      await db.destroy();
      client.release();
    },
  };
}

class OneConnectionDriver implements Driver {
  readonly #connection: DatabaseConnection;
  #depth = 0;

  constructor(client: PoolClient, onStatement: StatementListener) {
    this.#connection = {
      executeQuery: async <R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> => {
        onStatement(sql, parameters);
        try {
          const { rows, rowCount } = await client.query(sql, [...parameters]);
          return { rows, numAffectedRows: BigInt(rowCount ?? 0) };
        } catch (error) {
          // Outside of a transaction of its own a statement that fails hurts no other.
          if (this.#depth === 0) await client.query(`rollback to savepoint ${BASE}`);
          throw error;
        }
      },
      streamQuery: () => {
        throw new Error("no use case streams rows");
      },
    };
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    return this.#connection;
  }

  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw(`savepoint ${INNER}`));
    this.#depth++;
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw(`release savepoint ${INNER}`));
    this.#depth--;
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw(`rollback to savepoint ${INNER}; release savepoint ${INNER}`));
    this.#depth--;
  }

  async releaseConnection(): Promise<void> {}
  async destroy(): Promise<void> {}
}
