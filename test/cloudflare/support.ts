import { readFile } from "node:fs/promises";
import { CACHE_ROLE } from "#core/domain/permissions.ts";
import { fromUtf8 } from "#core/lib/bytes.ts";
import { openR2BlobStore } from "#runtime/cloudflare/r2-blob-store.ts";
import { bundleEdge } from "#scripts/edge-bundle.ts";
import { JWT_SECRET, makePerson, type Person } from "#test/cache/actors.ts";
import { type CacheBench, newId, type TestCache, withCacheBench } from "#test/cache/support.ts";
import type { TestDatabase } from "#test/support/database.ts";
import { type Forward, type Workerd, withForward, withWorkerd } from "./workerd.ts";

export const SERVE_URL = "https://gradient.example.org";
/** As the bench seals with. */
export const CRYPT_SECRET = "0123456789abcdef";
const PREFIX = "gradient/nars";

/** A server's caches in PostgreSQL and R2, and the Worker that serves them. */
export interface EdgeBench extends AsyncDisposable {
  /** What servers do: it writes where the Worker reads. */
  readonly bench: CacheBench;
  readonly workerd: Workerd;
  readonly database: Forward;
  /** What the Worker asks the runtime for of Node's. */
  readonly nodeModules: readonly string[];
  ask(path: string, init?: RequestInit): Promise<Response>;
  /** A user who may read the cache. */
  reader(username: string, cache: Pick<TestCache, "id">): Promise<Person>;
  askCache(cache: Pick<TestCache, "name">, path: string, init?: RequestInit): Promise<Response>;
}

export interface EdgeOptions {
  /** How the Worker is told where the database is. */
  readonly by?: "hyperdrive" | "secret";
}

export async function withEdge({ by = "hyperdrive" }: EdgeOptions = {}): Promise<EdgeBench> {
  await using stack = new AsyncDisposableStack();
  const disk = stack.use(await withCacheBench());
  const { host, port, database: name } = disk.database.address;
  const user = stack.use(await makeEdgeUser(disk.database));
  const database = stack.use(await withForward(`${host}/.s.PGSQL.${port}`));
  const url = `postgresql://${user.name}:${user.password}@127.0.0.1:${database.port}/${name}`;
  const { text: worker, nodeModules } = await bundleEdge();
  const settings = {
    ...(by === "secret" && { GRADIENT_DATABASE_URL: url }),
    GRADIENT_SERVE_URL: SERVE_URL,
    GRADIENT_S3_PREFIX: PREFIX,
    GRADIENT_JWT_SECRET: fromUtf8(JWT_SECRET),
    GRADIENT_CRYPT_SECRET: CRYPT_SECRET,
    GRADIENT_LOG_LEVEL: "debug",
  };
  const hyperdrive = by === "hyperdrive" ? url : null;
  const workerd = stack.use(await withWorkerd({ worker, hyperdrive, bindings: settings }));
  const bench = { ...disk, deps: { ...disk.deps, blobs: openR2BlobStore(workerd.bucket, { prefix: `${PREFIX}/` }) } };
  const ask = (path: string, init?: RequestInit) => fetch(`${workerd.origin}${path}`, init);
  const kept = stack.move();
  return {
    bench,
    workerd,
    database,
    nodeModules,
    ask,
    async reader(username, { id: cache_id }) {
      const person = await makePerson(bench, username);
      const member = { cache_id, user_id: person.id, role_id: CACHE_ROLE.View };
      await bench.deps.db.insertInto("cache_member").values(member).execute();
      return person;
    },
    askCache: (cache, path, init) => ask(`/cache/${cache.name}/${path}`, init),
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** A database user with the rights that `wrangler.example.toml` gives the Worker's. */
async function makeEdgeUser({ pool }: TestDatabase): Promise<AsyncDisposable & { name: string; password: string }> {
  const name = `edge_${newId().replaceAll("-", "")}`;
  const password = newId();
  const example = await readFile(new URL("../../wrangler.example.toml", import.meta.url), "utf8");
  const statements = [...example.matchAll(/^# {3}((?:grant|alter) .*;)$/gm)].map(([, statement = ""]) =>
    statement.replaceAll("gradient_edge", name),
  );
  if (statements.length === 0) throw new Error("wrangler.example.toml gives its user no rights");
  await pool.query([`create user ${name} password '${password}'`, ...statements].join(";\n"));
  // Users are the whole server's, and outlive the database.
  const drop = async () => void (await pool.query(`drop owned by ${name}; drop user ${name}`));
  return { name, password, [Symbol.asyncDispose]: drop };
}
