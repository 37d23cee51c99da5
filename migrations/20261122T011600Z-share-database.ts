import { type Kysely, sql } from "kysely";

/** Several servers on one database, outputs that vanish, and evaluations that bring back what nobody recorded. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table server (
      id uuid not null,
      storage text,
      started_at timestamp with time zone not null default gradient_now(),
      last_seen_at timestamp with time zone not null default gradient_now(),
      steady_since timestamp with time zone not null default gradient_now(),
      draining boolean not null default false,
      constraint server_pkey primary key (id)
    );

    alter table worker_connection add column server_id uuid
      constraint worker_connection_server_id_fkey references server (id) on delete set null;
    create index worker_connection_server_idx on worker_connection (server_id);
    -- The audit removes what ended long ago.
    create index worker_connection_closed_idx on worker_connection (disconnected_at) where disconnected_at is not null;
    create index session_expires_idx on session (expires_at);

    create table output_loss (
      build_id uuid not null,
      lost_at timestamp with time zone not null default gradient_now(),
      constraint output_loss_pkey primary key (build_id),
      constraint output_loss_build_id_fkey foreign key (build_id) references build (id) on delete cascade
    );

    create table recovery_need (
      build_id uuid not null,
      since timestamp with time zone not null default gradient_now(),
      constraint recovery_need_pkey primary key (build_id),
      constraint recovery_need_build_id_fkey foreign key (build_id) references build (id) on delete cascade
    );
    -- Serves listSuspectPaths.
    create index nar_damaged_idx on nar (damaged_at) where damaged_at is not null;

    alter table evaluation add column if not exists kind smallint not null default 0;
    alter table evaluation add column recovers_id uuid
      constraint evaluation_recovers_id_fkey references evaluation (id) on delete set null;
    create index evaluation_recovers_idx on evaluation (recovers_id);
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table evaluation drop column recovers_id;
    alter table evaluation drop column if exists kind;
    drop index nar_damaged_idx;
    drop table recovery_need, output_loss;
    drop index session_expires_idx;
    drop index worker_connection_closed_idx;
    alter table worker_connection drop column server_id;
    drop table server;
  `.execute(db);
}
