import { type Kysely, sql } from "kysely";

/** The log of an ended attempt moves out of the database, compressed, into the blob store. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Set together with the row in sealed_log; the log's rows are gone then, and nothing is appended any more.
    alter table attempt add column log_sealed boolean not null default false;
    -- Serves listUnsealedLogs.
    create index attempt_log_unsealed_idx on attempt (finished_at) where not log_sealed and log_bytes > 0;

    create table sealed_log (
      attempt_id uuid primary key references attempt on delete cascade,
      object_key text not null unique,
      bytes bigint not null,
      lines bigint not null,
      file_bytes bigint not null,
      -- Every frame but the last holds this many bytes of the log.
      frame_bytes integer not null,
      -- [first byte in the object, line feeds before], one a frame.
      frames jsonb not null,
      -- [first byte of the log, line feeds before], one a chunk that readers are shown.
      chunks jsonb not null,
      created_at timestamptz not null default gradient_now()
    );
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table sealed_log;
    drop index attempt_log_unsealed_idx;
    alter table attempt drop column log_sealed;
  `.execute(db);
}
