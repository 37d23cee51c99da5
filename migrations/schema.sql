-- What the migrations make, read back from the catalog: node scripts/dump-schema.ts writes this file, a test compares it.
-- For reading and for review; the migrations are what runs.

CREATE OR REPLACE FUNCTION public.gradient_count_build_ends()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    begin
      -- Most statements end nothing, and comparing with what was before costs more than looking for ends.
      if exists (select from after where status in (3, 4, 5, 6, 7, 9)) then
        insert into metric_count (name, value)
        select 'build.' || a.status, count(*) from after a join before b on b.id = a.id
        where a.status <> b.status and a.status in (3, 4, 5, 6, 7, 9)
        group by a.status;
      end if;
      return null;
    end $function$;

CREATE OR REPLACE FUNCTION public.gradient_count_end()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    begin
      insert into metric_count (name, value) values (tg_table_name || '.' || new.status, 1);
      return null;
    end $function$;

CREATE OR REPLACE FUNCTION public.gradient_count_new_ends()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    begin
      insert into metric_count (name, value)
      select 'build.' || status, count(*) from added where status in (3, 4, 5, 6, 7, 9) group by status;
      return null;
    end $function$;

CREATE OR REPLACE FUNCTION public.gradient_count_other_file()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    begin
      insert into cache_usage (cache_id, paths, bytes)
      select cache_id, 0, count(*) * (new.file_size - old.file_size) from cache_path
      where nar_hash = new.nar_hash group by cache_id;
      return null;
    end $function$;

CREATE OR REPLACE FUNCTION public.gradient_count_other_nar()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    begin
      insert into cache_usage (cache_id, paths, bytes, nar_bytes)
      select new.cache_id, 0, n.file_size - o.file_size, n.nar_size - o.nar_size
      from nar n, nar o where n.nar_hash = new.nar_hash and o.nar_hash = old.nar_hash;
      return null;
    end $function$;

CREATE OR REPLACE FUNCTION public.gradient_count_paths()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    begin
      if tg_op = 'INSERT' then
        insert into cache_usage (cache_id, paths, bytes, nar_bytes)
        select c.cache_id, count(*), sum(n.file_size), sum(n.nar_size)
        from changed c join nar n on n.nar_hash = c.nar_hash
        group by c.cache_id;
      else
        -- A cache that goes itself takes its rows along.
        insert into cache_usage (cache_id, paths, bytes, nar_bytes)
        select c.cache_id, -count(*), -sum(n.file_size), -sum(n.nar_size)
        from changed c join nar n on n.nar_hash = c.nar_hash
        where exists (select from cache where cache.id = c.cache_id)
        group by c.cache_id;
      end if;
      return null;
    end $function$;

CREATE OR REPLACE FUNCTION public.gradient_discard_objects()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    begin
      insert into discarded_object (object_key) select object_key from gone order by object_key
      on conflict (object_key) do nothing;
      return null;
    end $function$;

CREATE OR REPLACE FUNCTION public.gradient_lose_paths()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    begin
      insert into lost_path (store_path)
      select distinct g.store_path from gone g
      where exists (select from build_output o where o.store_path = g.store_path and o.available)
      order by g.store_path
      on conflict (store_path) do update set since = gradient_now();
      return null;
    end $function$;

CREATE OR REPLACE FUNCTION public.gradient_now()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
AS $function$ select coalesce(nullif(current_setting('gradient.now', true), '')::timestamptz, statement_timestamp()) $function$;

CREATE OR REPLACE FUNCTION public.gradient_overrule_group()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
      begin
        delete from group_membership where organization_id = new.organization_id and user_id = new.user_id;
        return null;
      end $function$;

CREATE OR REPLACE FUNCTION public.gradient_package_name(name text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
AS $function$ select regexp_replace(name, '-[^a-zA-Z].*$', '') $function$;

CREATE OR REPLACE FUNCTION public.gradient_tell_evaluation()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
    declare
      event text;
    begin
      if tg_op = 'INSERT' then
        event := case
          when new.status = 4 and new.waiting_reason ->> 'kind' = 'approval' then 'evaluation.action_required'
          when new.status in (0, 4) then 'evaluation.queued'
          when new.status = 3 then 'evaluation.building' end;
      else
        event := case
          when new.status = 5 and old.status <> 5 then 'evaluation.completed'
          when new.status = 6 and old.status <> 6 then 'evaluation.failed'
          when new.status = 7 and old.status <> 7 then 'evaluation.aborted'
          when old.waiting_reason ->> 'kind' = 'approval' and new.status in (0, 4)
            and new.waiting_reason ->> 'kind' is distinct from 'approval' then 'evaluation.approval_granted'
          when new.status in (1, 2, 8) and old.fetch_started_at is null then 'evaluation.started'
          when new.status = 3 and old.building_started_at is null then 'evaluation.building' end;
      end if;
      if event is null then return null; end if;
      insert into action_delivery (id, action_id, event, facts)
        select gen_random_uuid(), a.id, event, jsonb_build_object('evaluation_id', new.id, 'status', new.status,
          'project_id', new.project_id, 'repository', new.repository, 'kind', new.kind)
        from project_action a where a.project_id = new.project_id and a.active and a.events @> array[event];
      if event in ('evaluation.started', 'evaluation.building') then
        insert into action_watch (evaluation_id)
          select new.id where exists (
            select from project_action a, unnest(a.events) as e(name)
            where a.project_id = new.project_id and a.active and e.name like 'build.%')
          on conflict do nothing;
      end if;
      return null;
    end $function$;

create table account_token (
  id uuid not null,
  user_id uuid not null,
  purpose smallint not null,
  token_hash bytea,
  email text not null,
  created_at timestamp with time zone not null default gradient_now(),
  expires_at timestamp with time zone not null,
  constraint account_token_pkey PRIMARY KEY (id),
  constraint account_token_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE
);
CREATE INDEX account_token_expires_idx ON account_token (expires_at);
CREATE UNIQUE INDEX account_token_hash_key ON account_token (token_hash);
CREATE INDEX account_token_user_idx ON account_token (user_id, purpose, created_at);

create table action_delivery (
  id uuid not null,
  action_id uuid not null,
  event text not null,
  facts jsonb not null,
  created_at timestamp with time zone not null default gradient_now(),
  due_at timestamp with time zone not null default gradient_now(),
  attempts integer not null default 0,
  delivered_at timestamp with time zone,
  success boolean not null default false,
  request_body text not null default ''::text,
  response_status integer,
  response_body text,
  error_message text,
  duration_ms integer,
  constraint action_delivery_pkey PRIMARY KEY (id),
  constraint action_delivery_action_id_fkey FOREIGN KEY (action_id) REFERENCES project_action(id) ON DELETE CASCADE
);
CREATE INDEX action_delivery_action_idx ON action_delivery (action_id, delivered_at DESC, id);
CREATE INDEX action_delivery_due_idx ON action_delivery (due_at) WHERE (delivered_at IS NULL);
CREATE INDEX action_delivery_old_idx ON action_delivery (delivered_at) WHERE (delivered_at IS NOT NULL);

create table action_told_build (
  evaluation_build_id uuid not null,
  status smallint not null,
  constraint action_told_build_pkey PRIMARY KEY (evaluation_build_id),
  constraint action_told_build_evaluation_build_id_fkey FOREIGN KEY (evaluation_build_id) REFERENCES evaluation_build(id) ON DELETE CASCADE
);

create table action_watch (
  evaluation_id uuid not null,
  looked_at timestamp with time zone not null default gradient_now(),
  constraint action_watch_pkey PRIMARY KEY (evaluation_id),
  constraint action_watch_evaluation_id_fkey FOREIGN KEY (evaluation_id) REFERENCES evaluation(id) ON DELETE CASCADE
);
CREATE INDEX action_watch_idx ON action_watch (looked_at);

create table admin_task (
  id uuid not null,
  kind text not null,
  status smallint not null default 0,
  created_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  started_at timestamp with time zone,
  finished_at timestamp with time zone,
  parameters jsonb not null,
  progress jsonb,
  report jsonb,
  error text,
  cancel_wanted boolean not null default false,
  constraint admin_task_pkey PRIMARY KEY (id),
  constraint admin_task_created_by_fkey FOREIGN KEY (created_by) REFERENCES user_account(id) ON DELETE SET NULL
);
CREATE UNIQUE INDEX admin_task_active_key ON admin_task (kind) WHERE (status = ANY (ARRAY[0, 1]));
CREATE INDEX admin_task_created_by_idx ON admin_task (created_by);
CREATE INDEX admin_task_created_idx ON admin_task (created_at);

create table api_key (
  id uuid not null,
  owner_id uuid not null,
  name text not null,
  token_hash bytea not null,
  permissions bigint not null,
  organization_id uuid,
  cache_id uuid,
  allowed_ips text[] not null default '{}'::text[],
  managed boolean not null default false,
  created_at timestamp with time zone not null default gradient_now(),
  last_used_at timestamp with time zone,
  expires_at timestamp with time zone,
  revoked_at timestamp with time zone,
  constraint api_key_pkey PRIMARY KEY (id),
  constraint api_key_name_key UNIQUE (owner_id, name),
  constraint api_key_token_hash_key UNIQUE (token_hash),
  constraint api_key_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint api_key_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE,
  constraint api_key_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES user_account(id) ON DELETE CASCADE,
  constraint api_key_has_one_pin CHECK (((organization_id IS NULL) OR (cache_id IS NULL)))
);
CREATE INDEX api_key_cache_idx ON api_key (cache_id);
CREATE INDEX api_key_organization_idx ON api_key (organization_id);

create table attempt (
  id uuid not null,
  kind smallint not null,
  organization_id uuid not null,
  evaluation_id uuid,
  build_id uuid,
  worker_id uuid not null,
  assigned_at timestamp with time zone not null default gradient_now(),
  lease_expires_at timestamp with time zone not null,
  started_at timestamp with time zone,
  finished_at timestamp with time zone,
  outcome smallint not null default 0,
  reason smallint,
  message text,
  log_bytes bigint not null default 0,
  log_lines bigint not null default 0,
  score jsonb,
  deadline_at timestamp with time zone,
  build_ms bigint,
  cpu_user_ms bigint,
  cpu_system_ms bigint,
  peak_memory_bytes bigint,
  io_read_bytes bigint,
  io_write_bytes bigint,
  log_sealed boolean not null default false,
  constraint attempt_pkey PRIMARY KEY (id),
  constraint attempt_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE,
  constraint attempt_evaluation_id_fkey FOREIGN KEY (evaluation_id) REFERENCES evaluation(id) ON DELETE CASCADE,
  constraint attempt_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE,
  constraint attempt_end CHECK (((outcome = 0) = (finished_at IS NULL))),
  constraint attempt_subject CHECK ((((kind = ANY (ARRAY[0, 2])) = (evaluation_id IS NOT NULL)) AND ((kind = 1) = (build_id IS NOT NULL))))
);
CREATE INDEX attempt_assigned_idx ON attempt (assigned_at) WHERE (kind = 1);
CREATE INDEX attempt_build_idx ON attempt (build_id, assigned_at DESC);
CREATE INDEX attempt_built_idx ON attempt (finished_at) WHERE ((kind = 1) AND (outcome = 1));
CREATE INDEX attempt_deadline_idx ON attempt (deadline_at) WHERE ((finished_at IS NULL) AND (deadline_at IS NOT NULL));
CREATE INDEX attempt_evaluation_idx ON attempt (evaluation_id) WHERE (evaluation_id IS NOT NULL);
CREATE INDEX attempt_log_unsealed_idx ON attempt (finished_at) WHERE ((NOT log_sealed) AND (log_bytes > 0));
CREATE UNIQUE INDEX attempt_open_build_key ON attempt (build_id) WHERE ((finished_at IS NULL) AND (build_id IS NOT NULL));
CREATE UNIQUE INDEX attempt_open_evaluation_key ON attempt (evaluation_id) WHERE ((finished_at IS NULL) AND (evaluation_id IS NOT NULL));
CREATE INDEX attempt_open_lease_idx ON attempt (lease_expires_at) WHERE (finished_at IS NULL);
CREATE INDEX attempt_open_worker_idx ON attempt (worker_id) WHERE (finished_at IS NULL);
CREATE INDEX attempt_organization_idx ON attempt (organization_id);

create table attempt_log_chunk (
  attempt_id uuid not null,
  byte_start bigint not null,
  byte_length integer not null,
  line_start bigint not null,
  data bytea not null,
  constraint attempt_log_chunk_pkey PRIMARY KEY (attempt_id, byte_start),
  constraint attempt_log_chunk_attempt_id_fkey FOREIGN KEY (attempt_id) REFERENCES attempt(id) ON DELETE CASCADE
);

create table audit_event (
  id uuid not null,
  event text not null,
  user_id uuid,
  username text,
  organization_id uuid,
  cache_id uuid,
  ip text,
  user_agent text,
  metadata jsonb not null default '{}'::jsonb,
  created_at timestamp with time zone not null default gradient_now(),
  constraint audit_event_pkey PRIMARY KEY (id),
  constraint audit_event_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE SET NULL,
  constraint audit_event_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE SET NULL,
  constraint audit_event_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE SET NULL
);
CREATE INDEX audit_event_cache_idx ON audit_event (cache_id, created_at, id) WHERE (cache_id IS NOT NULL);
CREATE INDEX audit_event_created_idx ON audit_event (created_at);
CREATE INDEX audit_event_organization_idx ON audit_event (organization_id, created_at, id) WHERE (organization_id IS NOT NULL);
CREATE INDEX audit_event_user_idx ON audit_event (user_id, created_at, id);

create table base_worker (
  id uuid not null,
  worker_id uuid not null,
  display_name text not null,
  token_hash text not null,
  url text,
  enabled boolean not null default true,
  enable_fetch boolean not null default true,
  enable_eval boolean not null default true,
  enable_build boolean not null default true,
  authorize_against uuid,
  created_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  constraint base_worker_pkey PRIMARY KEY (id),
  constraint base_worker_key UNIQUE (worker_id),
  constraint base_worker_created_by_fkey FOREIGN KEY (created_by) REFERENCES user_account(id) ON DELETE SET NULL
);
CREATE INDEX base_worker_created_by_idx ON base_worker (created_by);

create table blocked_path (
  cache_id uuid not null,
  hash text not null,
  reason text not null,
  blocked_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  constraint blocked_path_pkey PRIMARY KEY (cache_id, hash),
  constraint blocked_path_blocked_by_fkey FOREIGN KEY (blocked_by) REFERENCES user_account(id) ON DELETE SET NULL,
  constraint blocked_path_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint blocked_path_hash_length CHECK ((length(hash) = 32))
);
CREATE INDEX blocked_path_blocked_by_idx ON blocked_path (blocked_by);

create table build (
  id uuid not null,
  organization_id uuid not null,
  drv_path text not null,
  name text not null,
  system text not null,
  required_features text[] not null default '{}'::text[],
  prefer_local_build boolean not null default false,
  allow_substitutes boolean not null default true,
  fixed_output boolean not null default false,
  timeout_seconds integer,
  max_silent_seconds integer,
  status smallint not null,
  pending_dependencies integer not null default 0,
  transient_failures integer not null default 0,
  retry_at timestamp with time zone,
  deterministic_failure boolean not null default false,
  priority integer not null default 0,
  pruned_at timestamp with time zone,
  pruned_cache_id uuid,
  created_at timestamp with time zone not null default gradient_now(),
  updated_at timestamp with time zone not null default gradient_now(),
  ready_at timestamp with time zone,
  resolution smallint not null default 0,
  realisation_hash bytea,
  constraint build_pkey PRIMARY KEY (id),
  constraint build_key UNIQUE (organization_id, drv_path),
  constraint build_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE,
  constraint build_pruned_cache_id_fkey FOREIGN KEY (pruned_cache_id) REFERENCES cache(id) ON DELETE SET NULL,
  constraint build_pending_is_not_negative CHECK ((pending_dependencies >= 0)),
  constraint build_realisation_hash_check CHECK ((octet_length(realisation_hash) = 32))
);
CREATE INDEX build_created_idx ON build (id) WHERE (status = 0);
CREATE INDEX build_priority_idx ON build (id) WHERE (priority <> 0);
CREATE INDEX build_pruned_cache_idx ON build (pruned_cache_id) WHERE (pruned_cache_id IS NOT NULL);
CREATE INDEX build_queue_idx ON build (organization_id, system, required_features, priority, ready_at, id) WHERE (status = 1);
CREATE INDEX build_retry_idx ON build (retry_at) WHERE (status = 8);
CREATE INDEX build_unresolved_idx ON build (id) WHERE ((status = 1) AND (resolution = 1));
CREATE TRIGGER build_count_end AFTER UPDATE ON build REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION gradient_count_build_ends();
CREATE TRIGGER build_count_new AFTER INSERT ON build REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION gradient_count_new_ends();

create table build_derivation (
  build_id uuid not null,
  aterm bytea not null,
  constraint build_derivation_pkey PRIMARY KEY (build_id),
  constraint build_derivation_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE
);

create table build_edge (
  build_id uuid not null,
  dependency_id uuid not null,
  outputs text[] not null,
  satisfied boolean not null default false,
  constraint build_edge_pkey PRIMARY KEY (build_id, dependency_id),
  constraint build_edge_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE,
  constraint build_edge_dependency_id_fkey FOREIGN KEY (dependency_id) REFERENCES build(id) ON DELETE CASCADE
);
CREATE INDEX build_edge_dependency_idx ON build_edge (dependency_id) INCLUDE (build_id);

create table build_history (
  organization_id uuid not null,
  system text not null,
  package_name text not null,
  durations_ms bigint[] not null,
  peak_memory_mb integer,
  updated_at timestamp with time zone not null default gradient_now(),
  constraint build_history_pkey PRIMARY KEY (organization_id, system, package_name),
  constraint build_history_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE
);
CREATE INDEX build_history_updated_idx ON build_history (updated_at);

create table build_output (
  build_id uuid not null,
  name text not null,
  store_path text,
  available boolean not null default false,
  constraint build_output_pkey PRIMARY KEY (build_id, name),
  constraint build_output_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE
);
CREATE INDEX build_output_path_idx ON build_output (store_path);

create table build_product (
  build_id uuid not null,
  ordinal integer not null,
  output text not null,
  type text not null,
  subtype text not null,
  name text not null,
  path text not null,
  size bigint,
  constraint build_product_pkey PRIMARY KEY (build_id, ordinal),
  constraint build_product_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE
);

create table build_request (
  id uuid not null,
  organization_id uuid not null,
  user_id uuid not null,
  created_at timestamp with time zone not null default gradient_now(),
  expires_at timestamp with time zone not null,
  evaluation_id uuid,
  dispatched_at timestamp with time zone,
  constraint build_request_pkey PRIMARY KEY (id),
  constraint build_request_evaluation_id_fkey FOREIGN KEY (evaluation_id) REFERENCES evaluation(id) ON DELETE SET NULL,
  constraint build_request_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE,
  constraint build_request_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE
);
CREATE INDEX build_request_evaluation_idx ON build_request (evaluation_id);
CREATE INDEX build_request_expiry_idx ON build_request (expires_at);
CREATE INDEX build_request_organization_idx ON build_request (organization_id);
CREATE INDEX build_request_user_idx ON build_request (user_id);

create table build_request_file (
  request_id uuid not null,
  path text not null,
  hash bytea not null,
  size bigint not null,
  kind smallint not null,
  constraint build_request_file_pkey PRIMARY KEY (request_id, path),
  constraint build_request_file_request_id_fkey FOREIGN KEY (request_id) REFERENCES build_request(id) ON DELETE CASCADE,
  constraint build_request_file_hash CHECK ((octet_length(hash) = 32)),
  constraint build_request_file_kind CHECK ((kind = ANY (ARRAY[0, 1, 2]))),
  constraint build_request_file_size CHECK ((size >= 0))
);
CREATE INDEX build_request_file_hash_idx ON build_request_file (request_id, hash);

create table build_resolution (
  build_id uuid not null,
  drv_path text not null,
  realisation_hash bytea,
  aterm bytea not null,
  constraint build_resolution_pkey PRIMARY KEY (build_id),
  constraint build_resolution_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE,
  constraint build_resolution_realisation_hash_check CHECK ((octet_length(realisation_hash) = 32))
);
CREATE INDEX build_resolution_drv_path_idx ON build_resolution (drv_path);

create table build_source (
  build_id uuid not null,
  store_path text not null,
  constraint build_source_pkey PRIMARY KEY (build_id, store_path),
  constraint build_source_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE
);
CREATE INDEX build_source_path_idx ON build_source (store_path);

create table cache (
  id uuid not null,
  kind smallint not null default 0,
  organization_id uuid,
  name text,
  display_name text not null,
  description text not null,
  active boolean not null default true,
  public boolean not null default false,
  priority integer not null default 40,
  local_priority integer,
  max_storage_gb integer not null default 0,
  managed boolean not null default false,
  created_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  pull_through boolean not null default false,
  constraint cache_pkey PRIMARY KEY (id),
  constraint cache_name_key UNIQUE (name),
  constraint cache_created_by_fkey FOREIGN KEY (created_by) REFERENCES user_account(id) ON DELETE SET NULL,
  constraint cache_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE,
  constraint cache_kind_is_whole CHECK ((((kind = 0) = (name IS NOT NULL)) AND ((kind = 1) = (organization_id IS NOT NULL))))
);
CREATE INDEX cache_created_by_idx ON cache (created_by);
CREATE UNIQUE INDEX cache_organization_key ON cache (organization_id);
CREATE INDEX cache_public_idx ON cache (name) WHERE public;

create table cache_history (
  cache_id uuid not null,
  granularity smallint not null,
  bucket_start timestamp with time zone not null,
  requests bigint not null default 0,
  bytes bigint not null default 0,
  packages bigint,
  stored_bytes bigint,
  constraint cache_history_pkey PRIMARY KEY (cache_id, granularity, bucket_start),
  constraint cache_history_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE
);
CREATE INDEX cache_history_age_idx ON cache_history (granularity, bucket_start);

create table cache_key (
  id uuid not null,
  cache_id uuid not null,
  public_key text not null,
  name text not null generated always as (split_part(public_key, ':'::text, 1)) stored,
  secret_key bytea not null,
  state smallint not null default 0,
  walked_to text,
  created_at timestamp with time zone not null default gradient_now(),
  retired_at timestamp with time zone,
  constraint cache_key_pkey PRIMARY KEY (id),
  constraint cache_key_name_key UNIQUE (cache_id, name),
  constraint cache_key_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint cache_key_is_whole CHECK ((((state = 0) = (retired_at IS NULL)) AND ((state <> 1) OR (walked_to IS NOT NULL)) AND ((state <> 2) OR (walked_to IS NULL)))),
  constraint cache_key_state_check CHECK (((state >= 0) AND (state <= 2)))
);
CREATE INDEX cache_key_name_idx ON cache_key (name);
CREATE INDEX cache_key_walk_idx ON cache_key (created_at) WHERE (walked_to IS NOT NULL);

create table cache_log (
  cache_id uuid not null,
  derivation text not null,
  log bytea not null,
  log_size bigint not null,
  created_at timestamp with time zone not null default gradient_now(),
  constraint cache_log_pkey PRIMARY KEY (cache_id, derivation),
  constraint cache_log_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE
);
CREATE INDEX cache_log_created_idx ON cache_log (created_at);

create table cache_member (
  cache_id uuid not null,
  user_id uuid not null,
  role_id uuid not null,
  created_at timestamp with time zone not null default gradient_now(),
  managed boolean not null default false,
  constraint cache_member_pkey PRIMARY KEY (cache_id, user_id),
  constraint cache_member_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint cache_member_role_id_fkey FOREIGN KEY (role_id) REFERENCES cache_role(id),
  constraint cache_member_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE
);
CREATE INDEX cache_member_role_idx ON cache_member (role_id);
CREATE INDEX cache_member_user_idx ON cache_member (user_id);

create table cache_path (
  cache_id uuid not null,
  hash text not null,
  store_path text not null,
  nar_hash bytea not null,
  "references" text[] not null default '{}'::text[],
  deriver text,
  ca text,
  signatures text[] not null default '{}'::text[],
  created_at timestamp with time zone not null default gradient_now(),
  last_used_at timestamp with time zone not null default gradient_now(),
  incomplete_at timestamp with time zone,
  fetch_count bigint not null default 0,
  constraint cache_path_pkey PRIMARY KEY (cache_id, hash),
  constraint cache_path_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint cache_path_nar_hash_fkey FOREIGN KEY (nar_hash) REFERENCES nar(nar_hash),
  constraint cache_path_hash_length CHECK ((length(hash) = 32))
);
CREATE INDEX cache_path_age_idx ON cache_path (cache_id, created_at, hash);
CREATE INDEX cache_path_debug_idx ON cache_path (nar_hash) WHERE (store_path ~~ '%-debug'::text);
CREATE INDEX cache_path_incomplete_idx ON cache_path (cache_id, hash) WHERE (incomplete_at IS NOT NULL);
CREATE INDEX cache_path_nar_idx ON cache_path (nar_hash);
CREATE INDEX cache_path_reference_idx ON cache_path USING gin ("references");
CREATE TRIGGER cache_path_count_added AFTER INSERT ON cache_path REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION gradient_count_paths();
CREATE TRIGGER cache_path_count_gone AFTER DELETE ON cache_path REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION gradient_count_paths();
CREATE TRIGGER cache_path_count_other AFTER UPDATE OF nar_hash ON cache_path FOR EACH ROW WHEN ((old.nar_hash <> new.nar_hash)) EXECUTE FUNCTION gradient_count_other_nar();
CREATE TRIGGER cache_path_lose AFTER DELETE ON cache_path REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gradient_lose_paths();

create table cache_pin (
  id uuid not null,
  cache_id uuid not null,
  name text not null,
  keep_revisions integer not null,
  last_revision integer not null default 0,
  created_at timestamp with time zone not null default gradient_now(),
  constraint cache_pin_pkey PRIMARY KEY (id),
  constraint cache_pin_key UNIQUE (cache_id, name),
  constraint cache_pin_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint cache_pin_keeps_one CHECK ((keep_revisions >= 1))
);

create table cache_pin_revision (
  pin_id uuid not null,
  revision integer not null,
  cache_id uuid not null,
  hash text not null,
  store_path text not null,
  created_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  constraint cache_pin_revision_pkey PRIMARY KEY (pin_id, revision),
  constraint cache_pin_revision_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint cache_pin_revision_created_by_fkey FOREIGN KEY (created_by) REFERENCES user_account(id) ON DELETE SET NULL,
  constraint cache_pin_revision_pin_id_fkey FOREIGN KEY (pin_id) REFERENCES cache_pin(id) ON DELETE CASCADE
);
CREATE INDEX cache_pin_revision_created_by_idx ON cache_pin_revision (created_by);
CREATE INDEX cache_pin_revision_path_idx ON cache_pin_revision (cache_id, hash);

create table cache_role (
  id uuid not null,
  cache_id uuid,
  name text not null,
  permissions bigint not null,
  managed boolean not null default false,
  created_at timestamp with time zone not null default gradient_now(),
  constraint cache_role_pkey PRIMARY KEY (id),
  constraint cache_role_name_key UNIQUE NULLS NOT DISTINCT (cache_id, name),
  constraint cache_role_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE
);

create table cache_upstream (
  id uuid not null,
  cache_id uuid not null,
  kind smallint not null,
  display_name text not null,
  url text,
  public_keys text[] not null,
  mode smallint not null default 1,
  created_at timestamp with time zone not null default gradient_now(),
  added_by uuid,
  upstream_cache_id uuid,
  remote_cache text,
  api_key bytea,
  constraint cache_upstream_pkey PRIMARY KEY (id),
  constraint cache_upstream_url_key UNIQUE NULLS NOT DISTINCT (cache_id, url, remote_cache, upstream_cache_id),
  constraint cache_upstream_added_by_fkey FOREIGN KEY (added_by) REFERENCES user_account(id) ON DELETE SET NULL,
  constraint cache_upstream_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint cache_upstream_upstream_cache_id_fkey FOREIGN KEY (upstream_cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint cache_upstream_is_whole CHECK ((((kind = 0) AND (upstream_cache_id IS NOT NULL) AND (upstream_cache_id <> cache_id) AND (url IS NULL)) OR ((kind = 1) AND (url IS NOT NULL) AND (remote_cache IS NOT NULL)) OR ((kind = 2) AND (url IS NOT NULL))))
);
CREATE INDEX cache_upstream_added_by_idx ON cache_upstream (added_by);
CREATE INDEX cache_upstream_cache_idx ON cache_upstream (upstream_cache_id);
CREATE INDEX cache_upstream_url_idx ON cache_upstream (url);

create table cache_usage (
  id bigint not null generated always as identity,
  cache_id uuid not null,
  paths bigint not null,
  bytes bigint not null,
  nar_bytes bigint not null default 0,
  constraint cache_usage_pkey PRIMARY KEY (id),
  constraint cache_usage_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE
);
CREATE INDEX cache_usage_cache_idx ON cache_usage (cache_id);

create table deployment (
  id uuid not null,
  host_id uuid not null,
  run_id uuid not null,
  mode smallint not null,
  step smallint not null,
  sequence integer not null,
  health smallint not null,
  reason text,
  failed_units text[] not null default '{}'::text[],
  exit_code integer,
  agent_version text not null,
  generation integer,
  store_path text,
  system jsonb,
  steps jsonb not null,
  failed boolean not null default false,
  started_at timestamp with time zone not null default gradient_now(),
  updated_at timestamp with time zone not null default gradient_now(),
  ended_at timestamp with time zone,
  constraint deployment_pkey PRIMARY KEY (id),
  constraint deployment_run_key UNIQUE (host_id, run_id),
  constraint deployment_host_id_fkey FOREIGN KEY (host_id) REFERENCES host(id) ON DELETE CASCADE
);
CREATE INDEX deployment_history_idx ON deployment (host_id, started_at DESC, id DESC);

create table deployment_hold (
  id uuid not null,
  project_id uuid not null,
  store_path text,
  commit_hash text,
  evaluation_id uuid,
  ordinal bigint,
  failed_host text,
  reason text,
  held_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  constraint deployment_hold_pkey PRIMARY KEY (id),
  constraint deployment_hold_held_by_fkey FOREIGN KEY (held_by) REFERENCES user_account(id) ON DELETE SET NULL,
  constraint deployment_hold_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX deployment_hold_commit_key ON deployment_hold (project_id, commit_hash) WHERE (store_path IS NULL);
CREATE INDEX deployment_hold_held_by_idx ON deployment_hold (held_by) WHERE (held_by IS NOT NULL);
CREATE UNIQUE INDEX deployment_hold_host_key ON deployment_hold (project_id, failed_host, store_path) WHERE (store_path IS NOT NULL);
CREATE INDEX deployment_hold_project_idx ON deployment_hold (project_id, created_at DESC, id DESC);

create table device_login (
  id uuid not null,
  device_code_hash bytea not null,
  user_code text not null,
  status smallint not null default 0,
  user_id uuid,
  user_agent text,
  ip text not null,
  created_at timestamp with time zone not null default gradient_now(),
  expires_at timestamp with time zone not null,
  constraint device_login_pkey PRIMARY KEY (id),
  constraint device_login_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX device_login_device_code_key ON device_login (device_code_hash);
CREATE INDEX device_login_expires_idx ON device_login (expires_at);
CREATE UNIQUE INDEX device_login_user_code_key ON device_login (user_code);
CREATE INDEX device_login_user_idx ON device_login (user_id);

create table discarded_object (
  object_key text not null,
  since timestamp with time zone not null default gradient_now(),
  constraint discarded_object_pkey PRIMARY KEY (object_key)
);
CREATE INDEX discarded_object_since_idx ON discarded_object (since);

create table entry_point (
  id uuid not null,
  evaluation_id uuid not null,
  attribute text[] not null,
  build_id uuid not null,
  created_at timestamp with time zone not null default gradient_now(),
  constraint entry_point_pkey PRIMARY KEY (id),
  constraint entry_point_key UNIQUE (evaluation_id, attribute),
  constraint entry_point_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE,
  constraint entry_point_evaluation_id_fkey FOREIGN KEY (evaluation_id) REFERENCES evaluation(id) ON DELETE CASCADE
);
CREATE INDEX entry_point_build_idx ON entry_point (build_id);

create table evaluation (
  id uuid not null,
  ordinal bigint not null generated always as identity,
  organization_id uuid not null,
  project_id uuid not null,
  repository text not null,
  commit_hash text not null,
  commit_message text not null default ''::text,
  commit_author text not null default ''::text,
  wildcard text not null,
  status smallint not null,
  trusted boolean not null default true,
  waiting_reason jsonb,
  previous_id uuid,
  started_by uuid,
  failure text,
  created_at timestamp with time zone not null default gradient_now(),
  updated_at timestamp with time zone not null default gradient_now(),
  fetch_started_at timestamp with time zone,
  eval_flake_started_at timestamp with time zone,
  eval_drv_started_at timestamp with time zone,
  building_started_at timestamp with time zone,
  finished_at timestamp with time zone,
  concurrent boolean not null default false,
  priority smallint not null default 0,
  input_overrides jsonb not null default '[]'::jsonb,
  source jsonb,
  kind smallint not null default 0,
  recovers_id uuid,
  trigger_id uuid,
  trigger_type smallint,
  locked_inputs jsonb,
  branch text,
  deploys boolean not null default false,
  constraint evaluation_pkey PRIMARY KEY (id),
  constraint evaluation_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE,
  constraint evaluation_previous_id_fkey FOREIGN KEY (previous_id) REFERENCES evaluation(id) ON DELETE SET NULL,
  constraint evaluation_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id) ON DELETE CASCADE,
  constraint evaluation_recovers_id_fkey FOREIGN KEY (recovers_id) REFERENCES evaluation(id) ON DELETE SET NULL,
  constraint evaluation_started_by_fkey FOREIGN KEY (started_by) REFERENCES user_account(id) ON DELETE SET NULL,
  constraint evaluation_trigger_id_fkey FOREIGN KEY (trigger_id) REFERENCES project_trigger(id) ON DELETE SET NULL
);
CREATE INDEX evaluation_active_idx ON evaluation (status, ordinal) WHERE (status = ANY (ARRAY[0, 1, 2, 3, 4, 8]));
CREATE INDEX evaluation_commit_idx ON evaluation ("left"(commit_hash, 32));
CREATE INDEX evaluation_deploy_idx ON evaluation (project_id, branch, ordinal DESC) WHERE deploys;
CREATE INDEX evaluation_organization_idx ON evaluation (organization_id);
CREATE INDEX evaluation_previous_idx ON evaluation (previous_id);
CREATE INDEX evaluation_priority_idx ON evaluation (id) WHERE ((priority <> 0) AND (status = ANY (ARRAY[0, 1, 2, 3, 4, 8])));
CREATE INDEX evaluation_project_idx ON evaluation (project_id, ordinal DESC);
CREATE INDEX evaluation_recovers_idx ON evaluation (recovers_id);
CREATE INDEX evaluation_started_by_idx ON evaluation (started_by);
CREATE INDEX evaluation_trigger_idx ON evaluation (trigger_id) WHERE (trigger_id IS NOT NULL);
CREATE INDEX evaluation_waiting_idx ON evaluation (id) WHERE (waiting_reason IS NOT NULL);
CREATE TRIGGER evaluation_count_end AFTER UPDATE OF status ON evaluation FOR EACH ROW WHEN (((new.status <> old.status) AND (new.status = ANY (ARRAY[5, 6, 7])))) EXECUTE FUNCTION gradient_count_end();
CREATE TRIGGER evaluation_count_new AFTER INSERT ON evaluation FOR EACH ROW WHEN ((new.status = ANY (ARRAY[5, 6, 7]))) EXECUTE FUNCTION gradient_count_end();
CREATE TRIGGER evaluation_tell_change AFTER UPDATE ON evaluation FOR EACH ROW WHEN (((new.kind <> 2) AND ((old.status IS DISTINCT FROM new.status) OR (old.waiting_reason IS DISTINCT FROM new.waiting_reason)))) EXECUTE FUNCTION gradient_tell_evaluation();
CREATE TRIGGER evaluation_tell_new AFTER INSERT ON evaluation FOR EACH ROW WHEN ((new.kind <> 2)) EXECUTE FUNCTION gradient_tell_evaluation();

create table evaluation_build (
  id uuid not null,
  evaluation_id uuid not null,
  build_id uuid not null,
  outcome smallint,
  attempt_id uuid,
  created_at timestamp with time zone not null default gradient_now(),
  constraint evaluation_build_pkey PRIMARY KEY (id),
  constraint evaluation_build_key UNIQUE (evaluation_id, build_id),
  constraint evaluation_build_attempt_id_fkey FOREIGN KEY (attempt_id) REFERENCES attempt(id) ON DELETE SET NULL,
  constraint evaluation_build_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE,
  constraint evaluation_build_evaluation_id_fkey FOREIGN KEY (evaluation_id) REFERENCES evaluation(id) ON DELETE CASCADE
);
CREATE INDEX evaluation_build_attempt_idx ON evaluation_build (attempt_id) WHERE (attempt_id IS NOT NULL);
CREATE INDEX evaluation_build_build_idx ON evaluation_build (build_id);

create table evaluation_message (
  id uuid not null,
  evaluation_id uuid not null,
  level smallint not null,
  message text not null,
  source text not null,
  attribute text[],
  created_at timestamp with time zone not null default gradient_now(),
  constraint evaluation_message_pkey PRIMARY KEY (id),
  constraint evaluation_message_evaluation_id_fkey FOREIGN KEY (evaluation_id) REFERENCES evaluation(id) ON DELETE CASCADE
);
CREATE INDEX evaluation_message_idx ON evaluation_message (evaluation_id, created_at);

create table evaluation_verdict (
  evaluation_id uuid not null,
  base_id uuid,
  ended_at timestamp with time zone not null default gradient_now(),
  record jsonb,
  constraint evaluation_verdict_pkey PRIMARY KEY (evaluation_id),
  constraint evaluation_verdict_evaluation_id_fkey FOREIGN KEY (evaluation_id) REFERENCES evaluation(id) ON DELETE CASCADE
);
CREATE INDEX evaluation_verdict_base_idx ON evaluation_verdict (base_id) WHERE (record IS NULL);
CREATE INDEX evaluation_verdict_open_idx ON evaluation_verdict (ended_at) WHERE (record IS NULL);

create table group_membership (
  organization_id uuid not null,
  user_id uuid not null,
  role_id uuid not null,
  own_role_id uuid,
  constraint group_membership_pkey PRIMARY KEY (organization_id, user_id),
  constraint group_membership_member_fkey FOREIGN KEY (organization_id, user_id) REFERENCES organization_member(organization_id, user_id) ON DELETE CASCADE,
  constraint group_membership_own_role_id_fkey FOREIGN KEY (own_role_id) REFERENCES role(id) ON DELETE SET NULL,
  constraint group_membership_role_id_fkey FOREIGN KEY (role_id) REFERENCES role(id) ON DELETE CASCADE
);
CREATE INDEX group_membership_own_role_idx ON group_membership (own_role_id);
CREATE INDEX group_membership_role_idx ON group_membership (role_id);
CREATE INDEX group_membership_user_idx ON group_membership (user_id);

create table host (
  id uuid not null,
  project_id uuid not null,
  name text not null,
  first_seen_at timestamp with time zone not null default gradient_now(),
  last_contact_at timestamp with time zone not null default gradient_now(),
  kept_until timestamp with time zone not null,
  agent_version text not null default ''::text,
  run_id uuid,
  sequence integer not null default 0,
  seen_at timestamp with time zone,
  running_path text,
  booted_path text,
  generation integer,
  health smallint not null default 0,
  health_reason text,
  failed_units text[] not null default '{}'::text[],
  healthy_since timestamp with time zone,
  running_since timestamp with time zone,
  running_system jsonb,
  constraint host_pkey PRIMARY KEY (id),
  constraint host_name_key UNIQUE (project_id, name),
  constraint host_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id) ON DELETE CASCADE
);

create table host_path (
  host_id uuid not null,
  role smallint not null,
  store_path text not null,
  since timestamp with time zone not null default gradient_now(),
  constraint host_path_pkey PRIMARY KEY (host_id, role, store_path),
  constraint host_path_host_id_fkey FOREIGN KEY (host_id) REFERENCES host(id) ON DELETE CASCADE
);
CREATE INDEX host_path_store_path_idx ON host_path (store_path);

create table integration (
  id uuid not null,
  organization_id uuid not null,
  kind smallint not null,
  forge_type smallint not null,
  name text not null,
  display_name text not null,
  endpoint_url text,
  secret bytea,
  access_token bytea,
  allowed_ips text[] not null default '{}'::text[],
  installation_id bigint,
  account_login text,
  managed boolean not null default false,
  created_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  constraint integration_pkey PRIMARY KEY (id),
  constraint integration_name_key UNIQUE (organization_id, kind, name),
  constraint integration_created_by_fkey FOREIGN KEY (created_by) REFERENCES user_account(id) ON DELETE SET NULL,
  constraint integration_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE,
  constraint integration_forge_is_known CHECK (((forge_type >= 0) AND (forge_type <= 3))),
  constraint integration_kind_is_known CHECK ((kind = ANY (ARRAY[0, 1])))
);
CREATE INDEX integration_created_by_idx ON integration (created_by);
CREATE INDEX integration_installation_idx ON integration (installation_id) WHERE (installation_id IS NOT NULL);

create table integrity_count (
  name text not null,
  value bigint not null,
  constraint integrity_count_pkey PRIMARY KEY (name)
);

create table lost_path (
  store_path text not null,
  since timestamp with time zone not null default gradient_now(),
  constraint lost_path_pkey PRIMARY KEY (store_path)
);
CREATE INDEX lost_path_since_idx ON lost_path (since);

create table mail (
  id uuid not null,
  kind text not null,
  user_id uuid,
  token_id uuid,
  recipient text,
  login_name text,
  created_at timestamp with time zone not null default gradient_now(),
  due_at timestamp with time zone not null default gradient_now(),
  attempts integer not null default 0,
  failed_at timestamp with time zone,
  error text,
  constraint mail_pkey PRIMARY KEY (id),
  constraint mail_token_id_fkey FOREIGN KEY (token_id) REFERENCES account_token(id) ON DELETE CASCADE,
  constraint mail_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE
);
CREATE INDEX mail_asked_idx ON mail (id) WHERE (login_name IS NOT NULL);
CREATE INDEX mail_due_idx ON mail (due_at) WHERE (failed_at IS NULL);
CREATE INDEX mail_failed_idx ON mail (failed_at) WHERE (failed_at IS NOT NULL);
CREATE UNIQUE INDEX mail_login_name_key ON mail (kind, lower(login_name)) WHERE (login_name IS NOT NULL);
CREATE INDEX mail_token_idx ON mail (token_id);
CREATE INDEX mail_user_idx ON mail (user_id);

create table metric_count (
  id bigint not null generated always as identity,
  name text not null,
  value bigint not null,
  constraint metric_count_pkey PRIMARY KEY (id)
);

create table nar (
  nar_hash bytea not null,
  nar_size bigint not null,
  file_hash bytea not null,
  file_size bigint not null,
  compression text not null,
  object_key text not null,
  created_at timestamp with time zone not null default gradient_now(),
  verified_at timestamp with time zone not null default gradient_now(),
  damaged_at timestamp with time zone,
  unpacked_at timestamp with time zone not null default gradient_now(),
  claimed_at timestamp with time zone not null default gradient_now(),
  constraint nar_pkey PRIMARY KEY (nar_hash),
  constraint nar_object_key_key UNIQUE (object_key)
);
CREATE INDEX nar_damaged_idx ON nar (damaged_at) WHERE (damaged_at IS NOT NULL);
CREATE INDEX nar_object_order_idx ON nar (object_key COLLATE "C");
CREATE INDEX nar_verified_idx ON nar (verified_at) WHERE (damaged_at IS NULL);
CREATE TRIGGER nar_count_other_file AFTER UPDATE OF file_size ON nar FOR EACH ROW WHEN ((old.file_size <> new.file_size)) EXECUTE FUNCTION gradient_count_other_file();
CREATE TRIGGER nar_discard AFTER DELETE ON nar REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gradient_discard_objects();

create table nar_damage (
  id bigint not null generated always as identity,
  object_key text not null,
  nar_hash bytea not null,
  fault text not null,
  message text not null,
  found_at timestamp with time zone not null default gradient_now(),
  attempts integer not null default 0,
  retry_at timestamp with time zone not null default gradient_now(),
  problem text,
  healed_at timestamp with time zone,
  healed_by text,
  constraint nar_damage_pkey PRIMARY KEY (id)
);
CREATE INDEX nar_damage_found_idx ON nar_damage (found_at);
CREATE INDEX nar_damage_open_idx ON nar_damage (retry_at) WHERE (healed_at IS NULL);
CREATE UNIQUE INDEX nar_damage_open_key ON nar_damage (object_key) WHERE (healed_at IS NULL);

create table nar_debug_file (
  build_id bytea not null,
  nar_hash bytea not null,
  constraint nar_debug_file_pkey PRIMARY KEY (build_id, nar_hash),
  constraint nar_debug_file_nar_hash_fkey FOREIGN KEY (nar_hash) REFERENCES nar_listing(nar_hash) ON DELETE CASCADE
);
CREATE INDEX nar_debug_file_nar_idx ON nar_debug_file (nar_hash);

create table nar_file (
  file_hash bytea not null,
  nar_hash bytea not null,
  constraint nar_file_pkey PRIMARY KEY (file_hash),
  constraint nar_file_nar_hash_fkey FOREIGN KEY (nar_hash) REFERENCES nar(nar_hash) ON DELETE CASCADE
);
CREATE INDEX nar_file_nar_idx ON nar_file (nar_hash);

create table nar_listing (
  nar_hash bytea not null,
  data bytea,
  text_bytes bigint not null,
  created_at timestamp with time zone not null default gradient_now(),
  constraint nar_listing_pkey PRIMARY KEY (nar_hash),
  constraint nar_listing_nar_hash_fkey FOREIGN KEY (nar_hash) REFERENCES nar(nar_hash) ON DELETE CASCADE
);

create table nar_upload (
  id uuid not null,
  cache_id uuid not null,
  user_id uuid not null,
  hash text not null,
  kind smallint not null,
  received bigint not null default 0,
  file_size bigint,
  storage_upload text,
  last_used_at timestamp with time zone not null default gradient_now(),
  constraint nar_upload_pkey PRIMARY KEY (id),
  constraint nar_upload_of_user UNIQUE (cache_id, user_id, hash, kind),
  constraint nar_upload_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint nar_upload_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE,
  constraint nar_upload_announced CHECK ((((kind = 1) = (file_size IS NOT NULL)) AND ((kind = 1) = (storage_upload IS NOT NULL)))),
  constraint nar_upload_hash CHECK ((length(hash) = 32)),
  constraint nar_upload_kind CHECK ((kind = ANY (ARRAY[0, 1])))
);
CREATE INDEX nar_upload_used_idx ON nar_upload (last_used_at);
CREATE INDEX nar_upload_user_idx ON nar_upload (user_id);

create table nar_upload_part (
  upload_id uuid not null,
  byte_start bigint not null,
  byte_length bigint not null,
  object_key text not null,
  constraint nar_upload_part_pkey PRIMARY KEY (upload_id, byte_start),
  constraint nar_upload_part_object_key_key UNIQUE (object_key),
  constraint nar_upload_part_upload_id_fkey FOREIGN KEY (upload_id) REFERENCES nar_upload(id) ON DELETE CASCADE
);

create table oidc_return (
  state_hash bytea not null,
  expires_at timestamp with time zone not null,
  constraint oidc_return_pkey PRIMARY KEY (state_hash)
);
CREATE INDEX oidc_return_expires_idx ON oidc_return (expires_at);

create table organization (
  id uuid not null,
  name text not null,
  display_name text not null,
  description text not null,
  public boolean not null default false,
  hide_build_requests boolean not null default false,
  ssh_public_key text not null,
  ssh_secret_key bytea not null,
  managed boolean not null default false,
  created_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  webhook_secret bytea,
  deleted_at timestamp with time zone,
  constraint organization_pkey PRIMARY KEY (id),
  constraint organization_name_key UNIQUE (name),
  constraint organization_created_by_fkey FOREIGN KEY (created_by) REFERENCES user_account(id) ON DELETE SET NULL
);
CREATE INDEX organization_created_by_idx ON organization (created_by);
CREATE INDEX organization_deleted_idx ON organization (deleted_at) WHERE (deleted_at IS NOT NULL);
CREATE INDEX organization_public_idx ON organization (name) WHERE public;

create table organization_cache (
  id uuid not null,
  organization_id uuid not null,
  cache_id uuid not null,
  mode smallint not null default 0,
  created_at timestamp with time zone not null default gradient_now(),
  managed boolean not null default false,
  constraint organization_cache_pkey PRIMARY KEY (id),
  constraint organization_cache_key UNIQUE (organization_id, cache_id),
  constraint organization_cache_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint organization_cache_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE
);
CREATE INDEX organization_cache_cache_idx ON organization_cache (cache_id);

create table organization_member (
  organization_id uuid not null,
  user_id uuid not null,
  role_id uuid not null,
  created_at timestamp with time zone not null default gradient_now(),
  managed boolean not null default false,
  constraint organization_member_pkey PRIMARY KEY (organization_id, user_id),
  constraint organization_member_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE,
  constraint organization_member_role_id_fkey FOREIGN KEY (role_id) REFERENCES role(id),
  constraint organization_member_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE
);
CREATE INDEX organization_member_role_idx ON organization_member (role_id);
CREATE INDEX organization_member_user_idx ON organization_member (user_id);
CREATE TRIGGER organization_member_overrule AFTER UPDATE OF role_id ON organization_member FOR EACH ROW WHEN ((old.role_id <> new.role_id)) EXECUTE FUNCTION gradient_overrule_group();

create table output_loss (
  build_id uuid not null,
  lost_at timestamp with time zone not null default gradient_now(),
  constraint output_loss_pkey PRIMARY KEY (build_id),
  constraint output_loss_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE
);

create table pending_member (
  organization_id uuid,
  role_id uuid,
  cache_id uuid,
  cache_role_id uuid,
  username text not null,
  created_at timestamp with time zone not null default gradient_now(),
  constraint pending_member_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint pending_member_cache_role_id_fkey FOREIGN KEY (cache_role_id) REFERENCES cache_role(id) ON DELETE CASCADE,
  constraint pending_member_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE,
  constraint pending_member_role_id_fkey FOREIGN KEY (role_id) REFERENCES role(id) ON DELETE CASCADE,
  constraint pending_member_is_whole CHECK ((((organization_id IS NOT NULL) AND (role_id IS NOT NULL) AND (cache_id IS NULL) AND (cache_role_id IS NULL)) OR ((cache_id IS NOT NULL) AND (cache_role_id IS NOT NULL) AND (organization_id IS NULL) AND (role_id IS NULL))))
);
CREATE UNIQUE INDEX pending_member_cache_key ON pending_member (cache_id, lower(username)) WHERE (cache_id IS NOT NULL);
CREATE INDEX pending_member_cache_role_idx ON pending_member (cache_role_id);
CREATE UNIQUE INDEX pending_member_organization_key ON pending_member (organization_id, lower(username)) WHERE (organization_id IS NOT NULL);
CREATE INDEX pending_member_role_idx ON pending_member (role_id);
CREATE INDEX pending_member_username_idx ON pending_member (lower(username));

create table project (
  id uuid not null,
  organization_id uuid not null,
  name text not null,
  display_name text not null,
  description text not null,
  repository text not null,
  wildcard text not null,
  active boolean not null default true,
  keep_evaluations integer not null default 5,
  concurrency smallint not null default 1,
  sign_cache boolean not null default true,
  force_evaluation boolean not null default false,
  managed boolean not null default false,
  created_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  last_check_at timestamp with time zone,
  deploy_branch text,
  deploy_hold boolean not null default true,
  deploy_wave_percent smallint not null default 100,
  deploy_soak_seconds integer not null default 0,
  default_branch text,
  constraint project_pkey PRIMARY KEY (id),
  constraint project_name_key UNIQUE (organization_id, name),
  constraint project_created_by_fkey FOREIGN KEY (created_by) REFERENCES user_account(id) ON DELETE SET NULL,
  constraint project_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE
);
CREATE INDEX project_created_by_idx ON project (created_by);

create table project_action (
  id uuid not null,
  project_id uuid not null,
  name text not null,
  type smallint not null,
  config jsonb not null,
  token bytea,
  events text[] not null default '{}'::text[],
  active boolean not null default true,
  last_fired_at timestamp with time zone,
  failures integer not null default 0,
  paused_until timestamp with time zone,
  created_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  updated_at timestamp with time zone not null default gradient_now(),
  constraint project_action_pkey PRIMARY KEY (id),
  constraint project_action_key UNIQUE (project_id, name),
  constraint project_action_created_by_fkey FOREIGN KEY (created_by) REFERENCES user_account(id) ON DELETE SET NULL,
  constraint project_action_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id) ON DELETE CASCADE
);
CREATE INDEX project_action_created_by_idx ON project_action (created_by);

create table project_flake_input (
  id uuid not null,
  project_id uuid not null,
  input_name text not null,
  url text,
  created_at timestamp with time zone not null default gradient_now(),
  updated_at timestamp with time zone not null default gradient_now(),
  constraint project_flake_input_pkey PRIMARY KEY (id),
  constraint project_flake_input_key UNIQUE (project_id, input_name),
  constraint project_flake_input_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id) ON DELETE CASCADE
);

create table project_trigger (
  id uuid not null,
  project_id uuid not null,
  type smallint not null,
  config jsonb not null,
  active boolean not null default true,
  revision integer not null default 0,
  due_at timestamp with time zone,
  last_commit text,
  last_checked_at timestamp with time zone,
  last_fired_at timestamp with time zone,
  last_error text,
  failures integer not null default 0,
  created_at timestamp with time zone not null default gradient_now(),
  updated_at timestamp with time zone not null default gradient_now(),
  constraint project_trigger_pkey PRIMARY KEY (id),
  constraint project_trigger_project_id_fkey FOREIGN KEY (project_id) REFERENCES project(id) ON DELETE CASCADE
);
CREATE INDEX project_trigger_due_idx ON project_trigger (due_at) WHERE (active AND (due_at IS NOT NULL));
CREATE INDEX project_trigger_project_idx ON project_trigger (project_id, created_at, id);

create table realisation (
  cache_id uuid not null,
  derivation_hash bytea not null,
  output text not null,
  path_hash text not null,
  dependents text[] not null default '{}'::text[],
  signatures text[] not null default '{}'::text[],
  created_at timestamp with time zone not null default gradient_now(),
  constraint realisation_pkey PRIMARY KEY (cache_id, derivation_hash, output),
  constraint realisation_cache_id_path_hash_fkey FOREIGN KEY (cache_id, path_hash) REFERENCES cache_path(cache_id, hash) ON DELETE CASCADE,
  constraint realisation_derivation_hash_check CHECK ((octet_length(derivation_hash) = 32))
);
CREATE INDEX realisation_path_idx ON realisation (cache_id, path_hash);

create table recovery_need (
  build_id uuid not null,
  since timestamp with time zone not null default gradient_now(),
  constraint recovery_need_pkey PRIMARY KEY (build_id),
  constraint recovery_need_build_id_fkey FOREIGN KEY (build_id) REFERENCES build(id) ON DELETE CASCADE
);

create unlogged table retention_path (
  mark_id uuid not null,
  hash text not null,
  store_path text not null,
  nar_hash bytea not null,
  file_size bigint not null,
  last_used_at timestamp with time zone not null,
  used_at timestamp with time zone not null,
  doomed boolean not null default false,
  constraint retention_path_pkey PRIMARY KEY (mark_id, hash)
);

create unlogged table retention_step (
  mark_id uuid not null,
  step integer not null,
  subject text not null,
  constraint retention_step_pkey PRIMARY KEY (mark_id, step, subject)
);

create table retention_sweep (
  id uuid not null,
  kind smallint not null,
  started_at timestamp with time zone not null default gradient_now(),
  finished_at timestamp with time zone,
  report jsonb,
  constraint retention_sweep_pkey PRIMARY KEY (id)
);
CREATE INDEX retention_sweep_kind_idx ON retention_sweep (kind, started_at);

create table role (
  id uuid not null,
  organization_id uuid,
  name text not null,
  permissions bigint not null,
  managed boolean not null default false,
  created_at timestamp with time zone not null default gradient_now(),
  oidc_groups text[] not null default '{}'::text[],
  scim_groups text[] not null default '{}'::text[],
  constraint role_pkey PRIMARY KEY (id),
  constraint role_name_key UNIQUE NULLS NOT DISTINCT (organization_id, name),
  constraint role_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE
);
CREATE INDEX role_oidc_groups_idx ON role USING gin (oidc_groups);

create table scheduler_state (
  id smallint not null default 1,
  draining_since timestamp with time zone,
  history_until timestamp with time zone not null default gradient_now(),
  constraint scheduler_state_pkey PRIMARY KEY (id),
  constraint scheduler_state_is_one_row CHECK ((id = 1))
);

create table scrub_state (
  singleton boolean not null default true,
  rows_after text,
  rows_finished_at timestamp with time zone,
  constraint scrub_state_pkey PRIMARY KEY (singleton),
  constraint scrub_state_singleton_check CHECK (singleton)
);

create table sealed_log (
  attempt_id uuid not null,
  object_key text not null,
  bytes bigint not null,
  lines bigint not null,
  file_bytes bigint not null,
  frame_bytes integer not null,
  frames jsonb not null,
  chunks jsonb not null,
  created_at timestamp with time zone not null default gradient_now(),
  constraint sealed_log_pkey PRIMARY KEY (attempt_id),
  constraint sealed_log_object_key_key UNIQUE (object_key),
  constraint sealed_log_attempt_id_fkey FOREIGN KEY (attempt_id) REFERENCES attempt(id) ON DELETE CASCADE
);
CREATE TRIGGER sealed_log_discard AFTER DELETE ON sealed_log REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gradient_discard_objects();

create table sent_nar (
  cache_id uuid not null,
  user_id uuid not null,
  nar_hash bytea not null,
  file_hash bytea not null,
  sent_at timestamp with time zone not null default gradient_now(),
  constraint sent_nar_pkey PRIMARY KEY (cache_id, user_id, nar_hash),
  constraint sent_nar_cache_id_fkey FOREIGN KEY (cache_id) REFERENCES cache(id) ON DELETE CASCADE,
  constraint sent_nar_nar_hash_fkey FOREIGN KEY (nar_hash) REFERENCES nar(nar_hash) ON DELETE CASCADE,
  constraint sent_nar_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE,
  constraint sent_nar_file_hash CHECK ((octet_length(file_hash) = 32))
);
CREATE INDEX sent_nar_file_idx ON sent_nar (cache_id, user_id, file_hash);
CREATE INDEX sent_nar_nar_idx ON sent_nar (nar_hash);
CREATE INDEX sent_nar_sent_idx ON sent_nar (sent_at);
CREATE INDEX sent_nar_user_idx ON sent_nar (user_id);

create table server (
  id uuid not null,
  storage text,
  started_at timestamp with time zone not null default gradient_now(),
  last_seen_at timestamp with time zone not null default gradient_now(),
  steady_since timestamp with time zone not null default gradient_now(),
  draining boolean not null default false,
  uses_flushed_at timestamp with time zone,
  constraint server_pkey PRIMARY KEY (id)
);

create table session (
  id uuid not null,
  user_id uuid not null,
  created_at timestamp with time zone not null default gradient_now(),
  expires_at timestamp with time zone not null,
  last_used_at timestamp with time zone not null default gradient_now(),
  revoked_at timestamp with time zone,
  remember_me boolean not null default false,
  user_agent text,
  ip text,
  constraint session_pkey PRIMARY KEY (id),
  constraint session_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE
);
CREATE INDEX session_expires_idx ON session (expires_at);
CREATE INDEX session_user_idx ON session (user_id);

create table source_blob (
  organization_id uuid not null,
  hash bytea not null,
  size bigint not null,
  object_key text not null,
  last_used_at timestamp with time zone not null default gradient_now(),
  constraint source_blob_pkey PRIMARY KEY (organization_id, hash),
  constraint source_blob_object_key_key UNIQUE (object_key),
  constraint source_blob_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE
);
CREATE INDEX source_blob_used_idx ON source_blob (last_used_at);
CREATE TRIGGER source_blob_discard AFTER DELETE ON source_blob REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gradient_discard_objects();

create table source_upload (
  id uuid not null,
  user_id uuid not null,
  received bigint not null default 0,
  last_used_at timestamp with time zone not null default gradient_now(),
  constraint source_upload_pkey PRIMARY KEY (id),
  constraint source_upload_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE
);
CREATE INDEX source_upload_used_idx ON source_upload (last_used_at);
CREATE INDEX source_upload_user_idx ON source_upload (user_id);

create table source_upload_part (
  upload_id uuid not null,
  byte_start bigint not null,
  byte_length bigint not null,
  object_key text not null,
  constraint source_upload_part_pkey PRIMARY KEY (upload_id, byte_start),
  constraint source_upload_part_object_key_key UNIQUE (object_key),
  constraint source_upload_part_upload_id_fkey FOREIGN KEY (upload_id) REFERENCES source_upload(id) ON DELETE CASCADE
);
CREATE TRIGGER source_upload_part_discard AFTER DELETE ON source_upload_part REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gradient_discard_objects();

create table upstream_metric (
  upstream_id uuid not null,
  hour timestamp with time zone not null,
  requests bigint not null,
  latency_ms bigint not null,
  hits bigint not null,
  misses bigint not null,
  failures bigint not null,
  constraint upstream_metric_pkey PRIMARY KEY (upstream_id, hour),
  constraint upstream_metric_upstream_id_fkey FOREIGN KEY (upstream_id) REFERENCES cache_upstream(id) ON DELETE CASCADE
);

create table upstream_path (
  upstream_id uuid not null,
  hash text not null,
  found boolean not null,
  store_path text,
  url text,
  compression text,
  file_hash bytea,
  file_size bigint,
  nar_hash bytea,
  nar_size bigint,
  "references" text[],
  deriver text,
  ca text,
  signatures text[],
  seen_at timestamp with time zone not null default gradient_now(),
  file_hash_algorithm text not null default 'sha256'::text,
  signed boolean not null default false,
  constraint upstream_path_pkey PRIMARY KEY (upstream_id, hash),
  constraint upstream_path_upstream_id_fkey FOREIGN KEY (upstream_id) REFERENCES cache_upstream(id) ON DELETE CASCADE,
  constraint upstream_path_hash_length CHECK ((length(hash) = 32)),
  constraint upstream_path_is_whole CHECK (((NOT found) OR ((store_path IS NOT NULL) AND (url IS NOT NULL) AND (compression IS NOT NULL) AND (nar_hash IS NOT NULL) AND (nar_size IS NOT NULL) AND ("references" IS NOT NULL))))
);
CREATE INDEX upstream_path_found_idx ON upstream_path (seen_at) WHERE found;
CREATE INDEX upstream_path_missed_idx ON upstream_path (seen_at) WHERE (NOT found);

create table user_account (
  id uuid not null,
  username text not null,
  name text not null,
  email text not null,
  password_hash text,
  email_verified boolean not null default false,
  superuser boolean not null default false,
  active boolean not null default true,
  managed boolean not null default false,
  created_at timestamp with time zone not null default gradient_now(),
  last_login_at timestamp with time zone,
  constraint user_account_pkey PRIMARY KEY (id)
);
CREATE INDEX user_account_email_idx ON user_account (lower(email));
CREATE UNIQUE INDEX user_account_email_key ON user_account (lower(email)) WHERE (email <> ''::text);
CREATE INDEX user_account_name_part_idx ON user_account USING gin (lower(name) gin_trgm_ops);
CREATE INDEX user_account_superuser_idx ON user_account (id) WHERE superuser;
CREATE UNIQUE INDEX user_account_username_key ON user_account (lower(username));
CREATE INDEX user_account_username_part_idx ON user_account USING gin (lower(username) gin_trgm_ops);

create table user_identity (
  user_id uuid not null,
  issuer text not null,
  subject text not null,
  linked_at timestamp with time zone not null default gradient_now(),
  constraint user_identity_pkey PRIMARY KEY (user_id),
  constraint user_identity_key UNIQUE (issuer, subject),
  constraint user_identity_user_id_fkey FOREIGN KEY (user_id) REFERENCES user_account(id) ON DELETE CASCADE
);

create table worker_connection (
  id uuid not null,
  worker_id uuid not null,
  connected_at timestamp with time zone not null default gradient_now(),
  last_seen_at timestamp with time zone not null default gradient_now(),
  disconnected_at timestamp with time zone,
  description jsonb not null,
  organization_ids uuid[] not null,
  metrics jsonb,
  server_id uuid,
  constraint worker_connection_pkey PRIMARY KEY (id),
  constraint worker_connection_server_id_fkey FOREIGN KEY (server_id) REFERENCES server(id) ON DELETE SET NULL
);
CREATE INDEX worker_connection_closed_idx ON worker_connection (disconnected_at) WHERE (disconnected_at IS NOT NULL);
CREATE INDEX worker_connection_open_idx ON worker_connection (worker_id) WHERE (disconnected_at IS NULL);
CREATE INDEX worker_connection_server_idx ON worker_connection (server_id);
CREATE INDEX worker_connection_worker_idx ON worker_connection (worker_id, connected_at);

create table worker_registration (
  id uuid not null,
  organization_id uuid not null,
  worker_id uuid not null,
  display_name text not null,
  token_hash text not null,
  url text,
  active boolean not null default true,
  enable_fetch boolean not null default true,
  enable_eval boolean not null default true,
  enable_build boolean not null default true,
  managed boolean not null default false,
  created_by uuid,
  created_at timestamp with time zone not null default gradient_now(),
  dial_after timestamp with time zone,
  dial_failures integer not null default 0,
  dial_error text,
  signing_key text,
  base_worker_id uuid,
  opted_in boolean not null default true,
  constraint worker_registration_pkey PRIMARY KEY (id),
  constraint worker_registration_key UNIQUE (organization_id, worker_id),
  constraint worker_registration_base_worker_id_fkey FOREIGN KEY (base_worker_id) REFERENCES base_worker(id) ON DELETE CASCADE,
  constraint worker_registration_created_by_fkey FOREIGN KEY (created_by) REFERENCES user_account(id) ON DELETE SET NULL,
  constraint worker_registration_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE
);
CREATE INDEX worker_registration_base_idx ON worker_registration (base_worker_id) WHERE (base_worker_id IS NOT NULL);
CREATE INDEX worker_registration_created_by_idx ON worker_registration (created_by);
CREATE INDEX worker_registration_dial_idx ON worker_registration (dial_after) WHERE (active AND (url IS NOT NULL));
CREATE INDEX worker_registration_worker_idx ON worker_registration (worker_id);

create table worker_sample (
  connection_id uuid not null,
  at timestamp with time zone not null default gradient_now(),
  metrics jsonb not null,
  constraint worker_sample_pkey PRIMARY KEY (connection_id, at),
  constraint worker_sample_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES worker_connection(id) ON DELETE CASCADE
);
CREATE INDEX worker_sample_at_idx ON worker_sample (at);
