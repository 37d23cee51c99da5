import { type Kysely, sql } from "kysely";
import { insertCache } from "#core/db/caches.ts";
import type { Database } from "#core/db/schema.ts";
import { uuidV4, uuidV7 } from "#core/lib/ids.ts";
import { makeCacheKey } from "#core/services/cache-key.ts";
import { createSecretBox } from "#core/services/secret-box.ts";
import { argon2Hasher } from "#runtime/node/password-hasher.ts";
import type { Secrets } from "#runtime/node/secrets.ts";

export interface Installation {
  readonly organizationId: string;
  readonly evaluationId: string;
  readonly cacheId: string;
  readonly token: string;
  readonly evaluatorId: string;
  readonly builderIds: readonly string[];
}

const ORIGIN = "http://127.0.0.1:3000";
const COMMIT = "1f0c8e3a5d7b9f2468ace13579bdf02468ace135";

/** An organization with a cache, a queued evaluation, one worker that evaluates and `builders` that build. */
export async function insertInstallation(
  db: Kysely<Database>,
  secrets: Secrets,
  builders: number,
): Promise<Installation> {
  const newId = () => uuidV7(Date.now());
  const box = await createSecretBox(secrets.crypt);
  const keyOf = async (id: string, name: string) => {
    const settings = { serveUrl: ORIGIN } as Parameters<typeof makeCacheKey>[0]["settings"];
    return await makeCacheKey({ secrets: box, settings }, id, name);
  };
  const [organizationId, cacheId, storeId, projectId, evaluationId] = [newId(), newId(), newId(), newId(), newId()];
  const display = { display_name: "Measured", description: "" };
  const organization = { id: organizationId, name: "measured", ...display };
  await db
    .insertInto("organization")
    .values({ ...organization, ssh_public_key: "", ssh_secret_key: new Uint8Array() })
    .execute();
  await insertCache(db, { id: cacheId, name: "measured", ...display, ...(await keyOf(cacheId, "measured")) });
  const internal = { id: storeId, kind: 1, organization_id: organizationId, ...display };
  await insertCache(db, { ...internal, ...(await keyOf(storeId, "internal")) });
  const subscription = { id: newId(), organization_id: organizationId, cache_id: cacheId, mode: 0 };
  await db.insertInto("organization_cache").values(subscription).execute();
  const source = { repository: "https://example.org/measured.git", wildcard: "packages.*.*" };
  await db
    .insertInto("project")
    .values({ id: projectId, organization_id: organizationId, name: "measured", ...display, ...source })
    .execute();
  const place = { organization_id: organizationId, project_id: projectId, commit_hash: COMMIT, status: 0 };
  await db
    .insertInto("evaluation")
    .values({ id: evaluationId, ...place, ...source })
    .execute();

  const token = "a token of the benchmark";
  const token_hash = await argon2Hasher.hash(token);
  const ids = Array.from({ length: builders + 1 }, () => uuidV4());
  const registration = { organization_id: organizationId, token_hash };
  await db
    .insertInto("worker_registration")
    .values(ids.map((worker_id, i) => ({ id: newId(), worker_id, display_name: `worker ${i}`, ...registration })))
    .execute();
  const [evaluatorId = "", ...builderIds] = ids;
  return { organizationId, evaluationId, cacheId, token, evaluatorId, builderIds };
}

/** Puts every output into the cache, so that builds succeed without an upload. */
export async function offerOutputs(db: Kysely<Database>, cacheId: string): Promise<void> {
  await sql`
    insert into nar (nar_hash, nar_size, file_hash, file_size, compression, object_key)
    select sha256(store_path::bytea), 1, sha256(store_path::bytea), 1, 'zstd', 'nar/' || store_path
    from build_output`.execute(db);
  await sql`
    insert into cache_path (cache_id, hash, store_path, nar_hash)
    select ${cacheId}, left(store_path, 32), store_path, sha256(store_path::bytea) from build_output`.execute(db);
}

/** By build, milliseconds since the epoch. */
export async function readReadyTimes(db: Kysely<Database>): Promise<ReadonlyMap<string, number>> {
  const { rows } = await sql<{ id: string; ms: number }>`
    select id, (extract(epoch from ready_at) * 1000)::float8 as ms from build`.execute(db);
  return new Map(rows.map(({ id, ms }) => [id, ms]));
}

/** Throws unless everything was built and the evaluation has ended. */
export async function requireCompleted(db: Kysely<Database>, nodes: number): Promise<void> {
  const { rows } = await sql<{ status: number; count: number }>`
    select status, count(*)::int as count from build group by status`.execute(db);
  const evaluations = await db.selectFrom("evaluation").select("status").execute();
  const done = rows.length === 1 && rows[0]?.status === 3 && rows[0].count === nodes;
  if (done && evaluations.every(({ status }) => status === 5)) return;
  throw new Error(`not all was built: ${JSON.stringify({ builds: rows, evaluations })}`);
}
