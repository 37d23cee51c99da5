import { type Kysely, sql } from "kysely";

/** Outputs whose paths are known only once they were built. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- 0 is built as it is, 1 is to be resolved before it is given out, 2 is resolved.
    alter table build add column resolution smallint not null default 0;
    -- Of the derivation as it was evaluated; null where its outputs have paths, or nobody said it.
    alter table build add column realisation_hash bytea check (octet_length(realisation_hash) = 32);
    create index build_unresolved_idx on build (id) where status = 1 and resolution = 1;

    -- What is built: the derivation with the outputs that it needs in the place of the derivations that make them.
    create table build_resolution (
      build_id uuid primary key references build on delete cascade,
      drv_path text not null,
      -- Null where the resolved derivation states the paths of its outputs.
      realisation_hash bytea check (octet_length(realisation_hash) = 32),
      aterm bytea not null
    );

    -- Where an output is, as a cache says it. It goes with the path.
    create table realisation (
      cache_id uuid not null,
      derivation_hash bytea not null check (octet_length(derivation_hash) = 32),
      output text not null,
      path_hash text not null,
      -- Realisations of inputs that the output refers to: sha256:<hex>!<output>.
      dependents text[] not null default '{}',
      -- Others', as name:base64.
      signatures text[] not null default '{}',
      created_at timestamptz not null default gradient_now(),
      primary key (cache_id, derivation_hash, output),
      foreign key (cache_id, path_hash) references cache_path (cache_id, hash) on delete cascade
    );
    create index realisation_path_idx on realisation (cache_id, path_hash);
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop table realisation;
    drop table build_resolution;
    drop index build_unresolved_idx;
    alter table build drop column realisation_hash;
    alter table build drop column resolution;
  `.execute(db);
}
