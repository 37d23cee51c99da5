import { type Kysely, sql } from "kysely";

/** Links that prove who reads a mail, and the mails that wait to be sent. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table account_token (
      id uuid primary key,
      user_id uuid not null references user_account on delete cascade,
      -- 0 proves an address, 1 sets a new password.
      purpose smallint not null,
      -- Null until the mail with the token's text goes out.
      token_hash bytea,
      -- Where the link is sent. Following it makes the address the user's.
      email text not null,
      created_at timestamptz not null default gradient_now(),
      expires_at timestamptz not null
    );
    create unique index account_token_hash_key on account_token (token_hash);
    create index account_token_user_idx on account_token (user_id, purpose, created_at);
    create index account_token_expires_idx on account_token (expires_at);

    create table mail (
      id uuid primary key,
      kind text not null,
      user_id uuid references user_account on delete cascade,
      -- Of mails with a link. A link that is of no use any more need not be sent.
      token_id uuid references account_token on delete cascade,
      recipient text,
      -- What somebody typed who wants a mail. Whose it is, is looked up when the mail is sent.
      login_name text,
      created_at timestamptz not null default gradient_now(),
      due_at timestamptz not null default gradient_now(),
      attempts integer not null default 0,
      failed_at timestamptz,
      error text
    );
    create index mail_due_idx on mail (due_at) where failed_at is null;
    create index mail_failed_idx on mail (failed_at) where failed_at is not null;
    create index mail_user_idx on mail (user_id);
    create index mail_token_idx on mail (token_id);
    -- However often a name is typed, it is looked up once.
    create unique index mail_login_name_key on mail (kind, lower(login_name)) where login_name is not null;
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`drop table mail, account_token`.execute(db);
}
