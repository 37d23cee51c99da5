import { type Kysely, sql } from "kysely";

/** What people push into caches, from the first byte until a path names it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- NARs that somebody has sent to a cache and that no path of it has named since.
    create table sent_nar (
      cache_id uuid not null references cache on delete cascade,
      user_id uuid not null references user_account on delete cascade,
      nar_hash bytea not null references nar on delete cascade,
      -- Of the file as it was sent: the name that the client knows it by.
      file_hash bytea not null constraint sent_nar_file_hash check (octet_length(file_hash) = 32),
      sent_at timestamptz not null default gradient_now(),
      primary key (cache_id, user_id, nar_hash)
    );
    -- Serves isNarSent.
    create index sent_nar_file_idx on sent_nar (cache_id, user_id, file_hash);
    create index sent_nar_user_idx on sent_nar (user_id);
    create index sent_nar_nar_idx on sent_nar (nar_hash);
    create index sent_nar_sent_idx on sent_nar (sent_at);

    -- NAR files that come in parts: 0 through the server, 1 straight into its storage.
    create table nar_upload (
      id uuid primary key,
      cache_id uuid not null references cache on delete cascade,
      user_id uuid not null references user_account on delete cascade,
      -- The 32 characters of the store path's hash.
      hash text not null constraint nar_upload_hash check (length(hash) = 32),
      kind smallint not null constraint nar_upload_kind check (kind in (0, 1)),
      received bigint not null default 0,
      -- Of kind 1: what was announced, and the storage's name of the upload.
      file_size bigint,
      storage_upload text,
      last_used_at timestamptz not null default gradient_now(),
      constraint nar_upload_of_user unique (cache_id, user_id, hash, kind),
      constraint nar_upload_announced
        check ((kind = 1) = (file_size is not null) and (kind = 1) = (storage_upload is not null))
    );
    create index nar_upload_user_idx on nar_upload (user_id);
    create index nar_upload_used_idx on nar_upload (last_used_at);
    create table nar_upload_part (
      upload_id uuid not null references nar_upload on delete cascade,
      byte_start bigint not null,
      byte_length bigint not null,
      object_key text not null unique,
      primary key (upload_id, byte_start)
    );

    -- Build logs that were pushed; those of builds of our own lie elsewhere.
    create table cache_log (
      cache_id uuid not null references cache on delete cascade,
      -- Base name.
      derivation text not null,
      -- Compressed with zstd.
      log bytea not null,
      log_size bigint not null,
      created_at timestamptz not null default gradient_now(),
      primary key (cache_id, derivation)
    );
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table cache_log;
    drop table nar_upload_part;
    drop table nar_upload;
    drop table sent_nar;
  `.execute(db);
}
