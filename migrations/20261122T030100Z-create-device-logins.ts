import { type Kysely, sql } from "kysely";

/** Command lines that wait for somebody to let them in from a browser. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table device_login (
      id uuid primary key,
      device_code_hash bytea not null,
      user_code text not null,
      -- 0 pending, 1 authorized, 2 denied, 3 used.
      status smallint not null default 0,
      -- Who has let it in.
      user_id uuid references user_account on delete cascade,
      user_agent text,
      ip text not null,
      created_at timestamptz not null default gradient_now(),
      expires_at timestamptz not null
    );
    create unique index device_login_device_code_key on device_login (device_code_hash);
    create unique index device_login_user_code_key on device_login (user_code);
    create index device_login_user_idx on device_login (user_id);
    create index device_login_expires_idx on device_login (expires_at);
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`drop table device_login`.execute(db);
}
