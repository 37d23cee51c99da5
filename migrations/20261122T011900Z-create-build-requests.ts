import { type Kysely, sql } from "kysely";

/** Sources that people send to have them built, without a repository in between. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table build_request (
      id uuid primary key,
      organization_id uuid not null references organization on delete cascade,
      user_id uuid not null references user_account on delete cascade,
      created_at timestamptz not null default gradient_now(),
      expires_at timestamptz not null,
      evaluation_id uuid references evaluation on delete set null,
      dispatched_at timestamptz
    );
    create index build_request_organization_idx on build_request (organization_id);
    create index build_request_user_idx on build_request (user_id);
    create index build_request_evaluation_idx on build_request (evaluation_id);
    create index build_request_expiry_idx on build_request (expires_at);

    create table build_request_file (
      request_id uuid not null references build_request on delete cascade,
      path text not null,
      -- BLAKE3 of the content; of a link it is the target.
      hash bytea not null constraint build_request_file_hash check (octet_length(hash) = 32),
      size bigint not null constraint build_request_file_size check (size >= 0),
      kind smallint not null constraint build_request_file_kind check (kind in (0, 1, 2)),
      primary key (request_id, path)
    );
    -- Serves listMissingBlobs and findRequestedSize.
    create index build_request_file_hash_idx on build_request_file (request_id, hash);

    -- Contents by their hash, for this request and the next ones of the organization.
    create table source_blob (
      organization_id uuid not null references organization on delete cascade,
      hash bytea not null,
      size bigint not null,
      object_key text not null unique,
      last_used_at timestamptz not null default gradient_now(),
      primary key (organization_id, hash)
    );
    create index source_blob_used_idx on source_blob (last_used_at);

    -- A NAR that comes in parts.
    create table source_upload (
      id uuid primary key,
      user_id uuid not null references user_account on delete cascade,
      received bigint not null default 0,
      last_used_at timestamptz not null default gradient_now()
    );
    create index source_upload_user_idx on source_upload (user_id);
    create index source_upload_used_idx on source_upload (last_used_at);
    create table source_upload_part (
      upload_id uuid not null references source_upload on delete cascade,
      byte_start bigint not null,
      byte_length bigint not null,
      object_key text not null unique,
      primary key (upload_id, byte_start)
    );
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table source_upload_part, source_upload, source_blob, build_request_file, build_request;
  `.execute(db);
}
