import pg from "pg";
import type { DatabaseAddress } from "#runtime/node/postgres/start.ts";
import { copyStatement } from "../support/template.ts";
import { Catalog } from "./catalog.ts";

/** Where a run takes place. */
export interface Ground {
  /** Of a database that is migrated and empty. */
  readonly address: DatabaseAddress;
  readonly catalog: Catalog;
  /** Answers that would come again are not asked for again. What happens is the same without this, and takes longer. */
  readonly recalls: boolean;
}

/** Statistics that come at some time of the machine's would change plans, and with them the order of rows. */
const WITHOUT_VACUUM = `do $$ declare name text; begin
  for name in select quote_ident(tablename) from pg_tables where schemaname = 'public' loop
    execute 'alter table ' || name || ' set (autovacuum_enabled = false)';
  end loop; end $$`;
/** Each copy of a database writes a segment of the log: nobody reads it, so it need not be zeroed before. */
const SETTINGS = "-c wal_init_zero=off";

/** Makes databases for one run after the other, on a server with the migrated template. */
export class Grounds {
  readonly #server: DatabaseAddress;
  readonly #administrator: pg.Client;
  readonly #template: string;
  readonly #catalog: Catalog;

  private constructor(server: DatabaseAddress, administrator: pg.Client, template: string, catalog: Catalog) {
    this.#server = server;
    this.#administrator = administrator;
    this.#template = template;
    this.#catalog = catalog;
  }

  static async open(server: DatabaseAddress): Promise<Grounds> {
    const administrator = await connect(server);
    const template = `sim_${process.pid}`;
    await administrator.query(copyStatement(server, template));
    const client = await connect({ ...server, database: template });
    await client.query(WITHOUT_VACUUM);
    const catalog = await Catalog.read(client);
    await client.end();
    return new Grounds(server, administrator, template, catalog);
  }

  async with<T>(name: string, recalls: boolean, work: (ground: Ground) => Promise<T>): Promise<T> {
    const database = `${this.#template}_${name}`;
    await this.#administrator.query(copyStatement(this.#server, database, this.#template));
    try {
      return await work({ address: { ...this.#server, database }, catalog: this.#catalog, recalls });
    } finally {
      await this.#administrator.query(`drop database ${database} with (force)`);
    }
  }

  async close(): Promise<void> {
    await this.#administrator.query(`drop database ${this.#template} with (force)`);
    await this.#administrator.end();
  }
}

async function connect(address: DatabaseAddress): Promise<pg.Client> {
  const client = new pg.Client({ ...address, ssl: false, options: SETTINGS });
  await client.connect();
  return client;
}
