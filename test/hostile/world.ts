import { randomUUID } from "node:crypto";
import { type Kysely, sql } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { inTransaction } from "#core/db/transaction.ts";
import { toHex, utf8 } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { commitPaths } from "#core/services/cache-commit.ts";
import { fileNar, storeFile } from "#test/cache/support.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import type { BenchBuild, HubBench } from "#test/support/hub.ts";
import { insertProjectRow, newId } from "#test/support/rows.ts";

/** What belongs to one organization, and what of it must never be seen by another. */
export interface Victim {
  readonly organizationId: string;
  /** What an attacker may know of it, because it names it himself. */
  readonly known: { readonly ids: readonly string[]; readonly paths: readonly StorePath[] };
  /** What nobody else was ever told: these texts are looked for in all that the attacker receives. */
  readonly secrets: readonly string[];
  readonly worker: FakeWorker;
  /** What its worker is about to build. */
  readonly build: BenchBuild & { readonly attempt: string };
}

/** A second organization on the bench: a secret path in its cache, an evaluation with a message, a build that runs. */
export async function addVictim(bench: HubBench): Promise<Victim> {
  const { db, deps } = bench;
  const organizationId = await bench.makeOrganization();
  const projectId = await insertProjectRow(db, { organizationId });
  const cacheIds = await cachesOf(db, organizationId);
  const secret = `secret ${randomUUID()}`;
  const hidden = await storeFile(bench, `hidden-${randomUUID()}`, { content: utf8(`below the ${secret}`) });
  const shown = await storeFile(bench, "shown", { content: utf8(secret), references: [hidden.storePath] });
  await inTransaction(db, (trx) => commitPaths(trx, deps, { cacheIds, organizationId, paths: [hidden, shown] }));

  const message = `message ${randomUUID()}`;
  const worker = await bench.registered({ organizationId, builds: 1 });
  const build = await bench.addBuild("victims", { organizationId, projectId });
  worker.send({ type: "request_job", kind: "build", free: 1 });
  const { attempt } = await worker.next("assign_job");
  await db
    .insertInto("evaluation_message")
    .values({ id: newId(), evaluation_id: build.evaluationId, level: 0, message, source: "evaluator", attribute: null })
    .execute();
  return {
    organizationId,
    known: {
      ids: [organizationId, projectId, build.id, build.evaluationId, attempt, worker.workerId, ...cacheIds],
      paths: [shown.storePath, build.output],
    },
    secrets: [
      secret,
      message,
      hidden.storePath.slice("/nix/store/".length),
      toHex(shown.narHash.digest),
      toHex(hidden.narHash.digest),
      ...Object.values(worker.tokens),
    ],
    worker,
    build: { ...build, attempt },
  };
}

/** The honest worker ends its build. */
export async function finish({ worker, build }: Victim): Promise<void> {
  const { attempt, output } = build;
  const nar = await fileNar(utf8("built in peace"));
  const digest = await crypto.subtle.digest("SHA-256", nar);
  const info = { path: output, nar_hash: toHex(new Uint8Array(digest)), nar_size: nar.length };
  const stream = worker.connection.openStream();
  const rest = { target: "output", compression: "none", stream: stream.id, with_result: true } as const;
  worker.send({
    type: "nar_push",
    upload: 1,
    attempt,
    info: { ...info, references: [], deriver: null, ca: null },
    ...rest,
  });
  await stream.pipe(streamOf(nar));
  const result: BuildResult = { kind: "build", status: "built", outputs: [], failure: null, build_ms: 1 };
  worker.send({ type: "job_result", attempt, uploads: [1], result });
  await worker.next("job_result_ack");
}

async function cachesOf(db: Kysely<Database>, organizationId: string): Promise<string[]> {
  const rows = await db
    .selectFrom("organization_cache")
    .select("cache_id")
    .where("organization_id", "=", organizationId)
    .execute();
  return rows.map((row) => row.cache_id);
}

/** What changes by itself while a worker is connected: its leases, and when it was heard. */
const LIVING = new Set([
  "lease_expires_at",
  "last_seen_at",
  "heard_at",
  "last_used_at",
  "used_at",
  "seen_at",
  "metrics",
]);
const OWNERS = ["organization_id", "evaluation_id", "build_id", "attempt_id", "cache_id", "project_id"];

/**
 * Every row that belongs to the organization, in whatever table, and the bytes of its NARs: the same text means that
 * nothing of it was changed, removed or added to.
 */
export async function snapshot(
  { db, deps }: HubBench,
  organizationId: string,
): Promise<Readonly<Record<string, string>>> {
  const columns = await sql<{ table_name: string; column_name: string }>`
    select table_name, column_name from information_schema.columns
    where table_schema = current_schema() and column_name = any(${OWNERS}) and data_type = 'uuid'`.execute(db);
  const owners = sql<string>`
    select ${organizationId}::uuid union select id from build where organization_id = ${organizationId}
    union select id from evaluation where organization_id = ${organizationId}
    union select id from attempt where organization_id = ${organizationId}
    union select cache_id from organization_cache where organization_id = ${organizationId}
    union select id from cache where organization_id = ${organizationId}
    union select id from project where organization_id = ${organizationId}`;
  const taken: Record<string, string> = {};
  for (const { table_name, column_name } of columns.rows) {
    const { rows } = await sql<{ row: Record<string, unknown> }>`
      select to_jsonb(t) as row from ${sql.table(table_name)} t where t.${sql.ref(column_name)} in (${owners})
      order by to_jsonb(t)::text`.execute(db);
    const lines = rows.map(({ row }) => JSON.stringify(row, (key, value) => (LIVING.has(key) ? null : value)));
    taken[`${table_name}.${column_name}`] = lines.sort().join("\n");
  }
  const nars = await sql<{ object_key: string }>`
    select distinct object_key from nar join cache_path using (nar_hash) where cache_id in (${owners})
    order by object_key`.execute(db);
  for (const { object_key } of nars.rows) {
    const object = await deps.blobs.get(object_key);
    const parts: Uint8Array[] = [];
    for await (const bytes of object?.body ?? streamOf()) parts.push(bytes);
    taken[object_key] = toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", Buffer.concat(parts))));
  }
  return taken;
}
