import { type Kysely, sql } from "kysely";

/** What is done when something happens to a project's evaluations and builds, and what came of it each time. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table project_action (
      id uuid primary key,
      project_id uuid not null references project on delete cascade,
      name text not null,
      -- 0 send_mail, 1 send_web_request, 2 forge_status_report, 3 open_pr
      type smallint not null,
      -- Without its type and without secrets.
      config jsonb not null,
      -- Sealed for this row: what a web request shows of itself.
      token bytea,
      events text[] not null default '{}',
      active boolean not null default true,
      last_fired_at timestamptz,
      -- How often in a row a delivery failed that is tried again, and until when none of this action is.
      failures integer not null default 0,
      paused_until timestamptz,
      created_by uuid references user_account on delete set null,
      created_at timestamptz not null default gradient_now(),
      updated_at timestamptz not null default gradient_now(),
      constraint project_action_key unique (project_id, name)
    );
    create index project_action_created_by_idx on project_action (created_by);

    -- Written with what happened; it waits to be sent until delivered_at is set.
    create table action_delivery (
      id uuid primary key,
      action_id uuid not null references project_action on delete cascade,
      event text not null,
      facts jsonb not null,
      created_at timestamptz not null default gradient_now(),
      due_at timestamptz not null default gradient_now(),
      attempts integer not null default 0,
      delivered_at timestamptz,
      success boolean not null default false,
      request_body text not null default '',
      response_status integer,
      response_body text,
      error_message text,
      duration_ms integer
    );
    -- Serves listDeliveries and what is removed in the end.
    create index action_delivery_action_idx on action_delivery (action_id, delivered_at desc, id);
    -- Serves claimDeliveries.
    create index action_delivery_due_idx on action_delivery (due_at) where delivered_at is null;
    create index action_delivery_old_idx on action_delivery (delivered_at) where delivered_at is not null;

    -- Evaluations whose builds are told of, and the state of each build that was told last.
    create table action_watch (
      evaluation_id uuid primary key references evaluation on delete cascade,
      looked_at timestamptz not null default gradient_now()
    );
    create index action_watch_idx on action_watch (looked_at);
    create table action_told_build (
      evaluation_build_id uuid primary key references evaluation_build on delete cascade,
      status smallint not null
    );

    -- Whatever changes an evaluation says so here, in its own transaction.
    create function gradient_tell_evaluation() returns trigger language plpgsql as $$
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
    end $$;
    -- What brings back lost outputs is nobody's evaluation.
    create trigger evaluation_tell_new after insert on evaluation
      for each row when (new.kind <> 2) execute function gradient_tell_evaluation();
    create trigger evaluation_tell_change after update on evaluation
      for each row when (new.kind <> 2 and (old.status is distinct from new.status
        or old.waiting_reason is distinct from new.waiting_reason)) execute function gradient_tell_evaluation();
  `.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop trigger evaluation_tell_change on evaluation;
    drop trigger evaluation_tell_new on evaluation;
    drop function gradient_tell_evaluation;
    drop table action_told_build, action_watch, action_delivery, project_action;
  `.execute(db);
}
