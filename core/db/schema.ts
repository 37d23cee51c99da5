import type { ColumnType, Generated, Selectable } from "kysely";
import type { WaitingReason } from "../domain/scheduling/waiting-reason.ts";
import type { AccountTokenTable, DeviceLoginTable, MailTable } from "./tables/accounts.ts";
import type {
  ActionDeliveryTable,
  ActionToldBuildTable,
  ActionWatchTable,
  ProjectActionTable,
} from "./tables/actions.ts";
import type { AdminTaskTable } from "./tables/admin-task.ts";
import type { AuditEventTable } from "./tables/audit-event.ts";
import type {
  BuildRequestFileTable,
  BuildRequestTable,
  SourceBlobTable,
  SourceUploadPartTable,
  SourceUploadTable,
} from "./tables/build-requests.ts";
import type { AttemptMetrics, BuildProductTable } from "./tables/build-results.ts";
import type { CacheHistoryTable } from "./tables/cache-history.ts";
import type { CacheKeyTable } from "./tables/cache-key.ts";
import type { DeploymentHoldTable, DeploymentTable, HostPathTable, HostTable } from "./tables/deployment.ts";
import type { FetchedSource, InputOverride, ProjectFlakeInputTable } from "./tables/flake-inputs.ts";
import type { GroupMembershipTable, OidcReturnTable, UserIdentityTable } from "./tables/identities.ts";
import type { IntegrationTable } from "./tables/integration.ts";
import type { IntegrityCountTable, NarDamageTable, ScrubStateTable } from "./tables/integrity.ts";
import type { MetricCountTable } from "./tables/metric-count.ts";
import type { NarDebugFileTable, NarListingTable } from "./tables/nar-listing.ts";
import type { BuildResolutionTable, RealisationTable } from "./tables/realisation.ts";
import type {
  BlockedPathTable,
  CachePinRevisionTable,
  CachePinTable,
  CacheUsageTable,
  DiscardedObjectTable,
  LostPathTable,
  RetentionPathTable,
  RetentionStepTable,
  RetentionSweepTable,
} from "./tables/retention.ts";
import type { BuildHistoryTable, DispatchScore, SchedulerStateTable } from "./tables/scheduling.ts";
import type { SealedLogTable } from "./tables/sealed-log.ts";
import type { OutputLossTable, RecoveryNeedTable, ServerTable } from "./tables/server.ts";
import type { BaseWorkerTable, PendingMemberTable } from "./tables/state.ts";
import type { ProjectTriggerTable } from "./tables/triggers.ts";
import type { CacheLogTable, NarUploadPartTable, NarUploadTable, SentNarTable } from "./tables/uploads.ts";
import type { CacheUpstreamTable, UpstreamMetricTable, UpstreamPathTable } from "./tables/upstreams.ts";
import type { EvaluationVerdictTable, LockedInput } from "./tables/verdict.ts";
import type { DialState, WorkerSample, WorkerSampleTable } from "./tables/worker-sample.ts";

/** Rows as PostgreSQL gives them: `bigint` as number (checked to be safe), `bytea` as bytes, `timestamptz` as Date. */
export interface Database {
  user_account: UserAccountTable;
  user_identity: UserIdentityTable;
  oidc_return: OidcReturnTable;
  session: SessionTable;
  account_token: AccountTokenTable;
  mail: MailTable;
  device_login: DeviceLoginTable;
  api_key: ApiKeyTable;
  audit_event: AuditEventTable;
  organization: OrganizationTable;
  organization_member: OrganizationMemberTable;
  pending_member: PendingMemberTable;
  group_membership: GroupMembershipTable;
  role: RoleTable;
  host: HostTable;
  host_path: HostPathTable;
  deployment: DeploymentTable;
  deployment_hold: DeploymentHoldTable;
  cache: CacheTable;
  cache_key: CacheKeyTable;
  cache_role: CacheRoleTable;
  cache_member: CacheMemberTable;
  organization_cache: OrganizationCacheTable;
  nar: NarTable;
  nar_file: NarFileTable;
  nar_listing: NarListingTable;
  nar_debug_file: NarDebugFileTable;
  nar_damage: NarDamageTable;
  integrity_count: IntegrityCountTable;
  scrub_state: ScrubStateTable;
  admin_task: AdminTaskTable;
  cache_history: CacheHistoryTable;
  cache_path: CachePathTable;
  cache_usage: CacheUsageTable;
  cache_pin: CachePinTable;
  cache_pin_revision: CachePinRevisionTable;
  blocked_path: BlockedPathTable;
  lost_path: LostPathTable;
  discarded_object: DiscardedObjectTable;
  retention_sweep: RetentionSweepTable;
  retention_path: RetentionPathTable;
  retention_step: RetentionStepTable;
  realisation: RealisationTable;
  cache_upstream: CacheUpstreamTable;
  upstream_path: UpstreamPathTable;
  upstream_metric: UpstreamMetricTable;
  project: ProjectTable;
  project_flake_input: ProjectFlakeInputTable;
  project_trigger: ProjectTriggerTable;
  project_action: ProjectActionTable;
  action_delivery: ActionDeliveryTable;
  action_watch: ActionWatchTable;
  action_told_build: ActionToldBuildTable;
  integration: IntegrationTable;
  evaluation: EvaluationTable;
  evaluation_message: EvaluationMessageTable;
  evaluation_verdict: EvaluationVerdictTable;
  entry_point: EntryPointTable;
  evaluation_build: EvaluationBuildTable;
  build: BuildTable;
  build_derivation: BuildDerivationTable;
  build_resolution: BuildResolutionTable;
  build_output: BuildOutputTable;
  build_edge: BuildEdgeTable;
  build_source: BuildSourceTable;
  build_product: BuildProductTable;
  attempt: AttemptTable;
  attempt_log_chunk: AttemptLogChunkTable;
  sealed_log: SealedLogTable;
  build_request: BuildRequestTable;
  build_request_file: BuildRequestFileTable;
  source_blob: SourceBlobTable;
  source_upload: SourceUploadTable;
  source_upload_part: SourceUploadPartTable;
  sent_nar: SentNarTable;
  nar_upload: NarUploadTable;
  nar_upload_part: NarUploadPartTable;
  cache_log: CacheLogTable;
  worker_registration: WorkerRegistrationTable;
  base_worker: BaseWorkerTable;
  worker_connection: WorkerConnectionTable;
  worker_sample: WorkerSampleTable;
  server: ServerTable;
  output_loss: OutputLossTable;
  recovery_need: RecoveryNeedTable;
  build_history: BuildHistoryTable;
  scheduler_state: SchedulerStateTable;
  metric_count: MetricCountTable;
}

type CreatedAt = ColumnType<Date, Date | undefined, never>;
/** A column with a default that may also be given. */
type Defaulted<T> = Generated<T>;
/** PostgreSQL's `jsonb`: read as a value, written as JSON text. */
type Json<T> = ColumnType<T, string, string>;

export interface UserAccountTable {
  id: string;
  username: string;
  name: string;
  email: string;
  password_hash: string | null;
  email_verified: Defaulted<boolean>;
  superuser: Defaulted<boolean>;
  active: Defaulted<boolean>;
  managed: Defaulted<boolean>;
  created_at: CreatedAt;
  last_login_at: Date | null;
}
export type UserAccountRow = Selectable<UserAccountTable>;

export interface SessionTable {
  id: string;
  user_id: string;
  created_at: CreatedAt;
  expires_at: Date;
  last_used_at: Defaulted<Date>;
  revoked_at: Date | null;
  remember_me: Defaulted<boolean>;
  user_agent: string | null;
  ip: string | null;
}

export interface ApiKeyTable {
  id: string;
  owner_id: string;
  name: string;
  token_hash: Uint8Array;
  permissions: number;
  organization_id: string | null;
  cache_id: string | null;
  allowed_ips: Defaulted<string[]>;
  managed: Defaulted<boolean>;
  created_at: CreatedAt;
  last_used_at: Date | null;
  expires_at: Date | null;
  revoked_at: Date | null;
}
export type ApiKeyRow = Selectable<ApiKeyTable>;

export interface OrganizationTable {
  id: string;
  name: string;
  display_name: string;
  description: string;
  public: Defaulted<boolean>;
  hide_build_requests: Defaulted<boolean>;
  ssh_public_key: string;
  ssh_secret_key: Uint8Array;
  /** Sealed for this row: what forges sign with that have no integration of their own. */
  webhook_secret: ColumnType<Uint8Array | null, Uint8Array | null | undefined, Uint8Array | null>;
  /** Set: nobody belongs to it any more, and its rows go in the background. */
  deleted_at: ColumnType<Date | null, never, Date>;
  managed: Defaulted<boolean>;
  created_by: string | null;
  created_at: CreatedAt;
}
export type OrganizationRow = Selectable<OrganizationTable>;

export interface RoleTable {
  id: string;
  organization_id: string | null;
  name: string;
  permissions: number;
  managed: Defaulted<boolean>;
  /** Names of groups at the identity provider whose members have this role. */
  oidc_groups: Defaulted<string[]>;
  scim_groups: Defaulted<string[]>;
  created_at: CreatedAt;
}

export interface OrganizationMemberTable {
  organization_id: string;
  user_id: string;
  role_id: string;
  /** Put there by the state file. */
  managed: Defaulted<boolean>;
  created_at: CreatedAt;
}

export interface CacheTable {
  id: string;
  /** 0 named cache, 1 an organization's internal store. */
  kind: Defaulted<number>;
  organization_id: string | null;
  name: string | null;
  display_name: string;
  description: string;
  active: Defaulted<boolean>;
  public: Defaulted<boolean>;
  priority: Defaulted<number>;
  local_priority: number | null;
  max_storage_gb: Defaulted<number>;
  /** It keeps what passes through it from its upstreams. */
  pull_through: Defaulted<boolean>;
  managed: Defaulted<boolean>;
  created_by: string | null;
  created_at: CreatedAt;
}
export type CacheRow = Selectable<CacheTable>;

export interface CacheRoleTable {
  id: string;
  cache_id: string | null;
  name: string;
  permissions: number;
  managed: Defaulted<boolean>;
  created_at: CreatedAt;
}

export interface CacheMemberTable {
  cache_id: string;
  user_id: string;
  role_id: string;
  /** Put there by the state file. */
  managed: Defaulted<boolean>;
  created_at: CreatedAt;
}

export interface OrganizationCacheTable {
  id: string;
  organization_id: string;
  cache_id: string;
  /** 0 read and write, 1 read only, 2 write only. */
  mode: Defaulted<number>;
  /** Put there by the state file. */
  managed: Defaulted<boolean>;
  created_at: CreatedAt;
}

export interface NarTable {
  nar_hash: Uint8Array;
  nar_size: number;
  file_hash: Uint8Array;
  file_size: number;
  compression: string;
  object_key: string;
  created_at: CreatedAt;
  /** When the file's hash was last seen to be right. */
  verified_at: Defaulted<Date>;
  /** The same of the NAR's own hash. */
  unpacked_at: Defaulted<Date>;
  damaged_at: Date | null;
  /** When somebody counted on it last without a path that names it. */
  claimed_at: Defaulted<Date>;
}
export type NarRow = Selectable<NarTable>;

export interface NarFileTable {
  file_hash: Uint8Array;
  nar_hash: Uint8Array;
}

export interface CachePathTable {
  cache_id: string;
  /** The 32 characters of the store path's hash. */
  hash: string;
  /** Base name, `hash-name`. */
  store_path: string;
  nar_hash: Uint8Array;
  /** Base names, sorted. */
  references: Defaulted<string[]>;
  /** Base name. */
  deriver: string | null;
  ca: string | null;
  /** `name:base64`, the cache's own among them. */
  signatures: Defaulted<string[]>;
  created_at: CreatedAt;
  last_used_at: Defaulted<Date>;
  /** How often it was used until then. */
  fetch_count: Defaulted<number>;
  /** Since when a reference of it cannot be had; it is not offered then. */
  incomplete_at: ColumnType<Date | null, Date | null | undefined, Date | null>;
}
export type CachePathRow = Selectable<CachePathTable>;

export interface ProjectTable {
  id: string;
  organization_id: string;
  name: string;
  display_name: string;
  description: string;
  repository: string;
  wildcard: string;
  active: Defaulted<boolean>;
  keep_evaluations: Defaulted<number>;
  /** 0 hard_abort, 1 soft_abort, 2 all, 3 skip. */
  concurrency: Defaulted<number>;
  sign_cache: Defaulted<boolean>;
  force_evaluation: Defaulted<boolean>;
  managed: Defaulted<boolean>;
  created_by: string | null;
  created_at: CreatedAt;
  last_check_at: Date | null;
  /** Null: the one that its triggers name, else its repository's default. */
  deploy_branch: string | null;
  /** A commit that failed on one host is kept from the others. */
  deploy_hold: Defaulted<boolean>;
  deploy_wave_percent: Defaulted<number>;
  deploy_soak_seconds: Defaulted<number>;
  /** As the repository named it last. */
  default_branch: string | null;
}
export type ProjectRow = Selectable<ProjectTable>;

export interface EvaluationTable {
  id: string;
  ordinal: Generated<number>;
  organization_id: string;
  project_id: string;
  repository: string;
  commit_hash: string;
  commit_message: Defaulted<string>;
  commit_author: Defaulted<string>;
  wildcard: string;
  /** `EvaluationKind`. */
  kind: Defaulted<number>;
  /** Of a recovery: whose lost outputs it brings back. */
  recovers_id: string | null;
  status: number;
  trusted: Defaulted<boolean>;
  waiting_reason: Json<WaitingReason | null> | null;
  /** Beside others of its project: concurrency policies leave it alone. */
  concurrent: Defaulted<boolean>;
  /** From -10 to 10; its builds get at least that. */
  priority: Defaulted<number>;
  input_overrides: ColumnType<readonly InputOverride[], string | undefined, string>;
  source: Json<FetchedSource | null> | null;
  /** What its lock file names; null where nobody said it. */
  locked_inputs: Json<readonly LockedInput[] | null> | null;
  previous_id: string | null;
  /** What began it; null for what a person began, and when it is gone. Its type stays (`TRIGGER_TYPES`). */
  trigger_id: string | null;
  trigger_type: number | null;
  /** Of the project's own repository; null for what is of none. */
  branch: string | null;
  /** What it builds may go to hosts: `mayDeploy`. */
  deploys: Defaulted<boolean>;
  started_by: string | null;
  failure: string | null;
  created_at: CreatedAt;
  updated_at: Defaulted<Date>;
  fetch_started_at: Date | null;
  eval_flake_started_at: Date | null;
  eval_drv_started_at: Date | null;
  building_started_at: Date | null;
  finished_at: Date | null;
}
export type EvaluationRow = Selectable<EvaluationTable>;

export interface EvaluationMessageTable {
  id: string;
  evaluation_id: string;
  /** 0 error, 1 warning, 2 notice. */
  level: number;
  message: string;
  source: string;
  attribute: string[] | null;
  created_at: CreatedAt;
}

export interface EntryPointTable {
  id: string;
  evaluation_id: string;
  attribute: string[];
  build_id: string;
  created_at: CreatedAt;
}

export interface EvaluationBuildTable {
  id: string;
  evaluation_id: string;
  build_id: string;
  outcome: number | null;
  attempt_id: string | null;
  created_at: CreatedAt;
}

export interface BuildTable {
  id: string;
  organization_id: string;
  /** Base name, `hash-name.drv`. */
  drv_path: string;
  name: string;
  system: string;
  required_features: Defaulted<string[]>;
  prefer_local_build: Defaulted<boolean>;
  allow_substitutes: Defaulted<boolean>;
  fixed_output: Defaulted<boolean>;
  /** 0 is built as it is, 1 is to be resolved before it is given out, 2 is resolved (`build_resolution`). */
  resolution: Defaulted<number>;
  /** Of the derivation as it was evaluated; null where its outputs have paths, or nobody said it. */
  realisation_hash: Uint8Array | null;
  timeout_seconds: number | null;
  max_silent_seconds: number | null;
  status: number;
  pending_dependencies: Defaulted<number>;
  transient_failures: Defaulted<number>;
  retry_at: Date | null;
  deterministic_failure: Defaulted<boolean>;
  priority: Defaulted<number>;
  pruned_at: Date | null;
  pruned_cache_id: string | null;
  created_at: CreatedAt;
  updated_at: Defaulted<Date>;
  ready_at: Date | null;
}

export interface BuildDerivationTable {
  build_id: string;
  aterm: Uint8Array;
}

export interface BuildOutputTable {
  build_id: string;
  name: string;
  /** Base name; null where the path is known only after the build. */
  store_path: string | null;
  available: Defaulted<boolean>;
}

export interface BuildEdgeTable {
  build_id: string;
  dependency_id: string;
  outputs: string[];
  satisfied: Defaulted<boolean>;
}

export interface BuildSourceTable {
  build_id: string;
  /** Base name. */
  store_path: string;
}

export interface AttemptTable extends AttemptMetrics {
  id: string;
  /** 0 evaluation, 1 build, 2 fetch. */
  kind: number;
  organization_id: string;
  evaluation_id: string | null;
  build_id: string | null;
  worker_id: string;
  assigned_at: Defaulted<Date>;
  lease_expires_at: Date;
  started_at: Date | null;
  finished_at: Date | null;
  outcome: Defaulted<number>;
  reason: number | null;
  message: string | null;
  log_bytes: Defaulted<number>;
  log_lines: Defaulted<number>;
  /** The log is in the blob store. */
  log_sealed: Defaulted<boolean>;
  score: Json<DispatchScore> | null;
  /** Until then the worker has to end it, however lively it is; null is never. */
  deadline_at: Date | null;
}
export type AttemptRow = Selectable<AttemptTable>;

export interface AttemptLogChunkTable {
  attempt_id: string;
  byte_start: number;
  byte_length: number;
  line_start: number;
  data: Uint8Array;
}

export interface WorkerRegistrationTable extends DialState {
  id: string;
  organization_id: string;
  worker_id: string;
  display_name: string;
  token_hash: string;
  url: string | null;
  active: Defaulted<boolean>;
  enable_fetch: Defaulted<boolean>;
  enable_eval: Defaulted<boolean>;
  enable_build: Defaulted<boolean>;
  managed: Defaulted<boolean>;
  /** `name:base64`: the public half of what the worker signs with, as it announced it last. */
  signing_key: string | null;
  /** Of a worker that any organization may use; null for one that the organization registered itself. */
  base_worker_id: ColumnType<string | null, string | null | undefined, string | null>;
  /** Of a base worker: whether the organization wants it. */
  opted_in: Defaulted<boolean>;
  created_by: string | null;
  created_at: CreatedAt;
}
export type WorkerRegistrationRow = Selectable<WorkerRegistrationTable>;

/** What a connected worker told of itself. */
export interface WorkerDescription {
  readonly capabilities: {
    readonly fetch: boolean;
    readonly eval: boolean;
    readonly build: boolean;
    readonly sign: boolean;
    readonly federate: boolean;
  };
  readonly groups: readonly WorkerBuildGroup[];
  readonly max_concurrent_evaluations: number;
  /** Of a relay, what each of its machines can do alone. Absent: all places are for what the worker is capable of. */
  readonly evaluation_groups?: readonly WorkerEvaluationGroup[] | undefined;
  readonly cpu_count: number;
  readonly ram_total_mb: number;
  /** `name:base64`: what it signs its uploads with. Null for a worker that does not sign. */
  readonly signing_key: string | null;
  /** Of a relay, those of the workers behind it. */
  readonly signing_keys?: readonly string[] | undefined;
  /** It may be asked for NARs that were lost. */
  readonly returns_nars?: boolean | undefined;
  /** It finishes what it has and takes no more. */
  readonly draining: boolean;
}

/** Places for builds that are alike; a plain worker has one group. */
export interface WorkerBuildGroup {
  readonly architectures: readonly string[];
  readonly system_features: readonly string[];
  readonly max_concurrent_builds: number;
  /** Whose builds these places are for. Absent: of all that let the worker in. */
  readonly organizations?: readonly string[] | undefined;
}

export interface WorkerEvaluationGroup {
  readonly fetch: boolean;
  readonly eval: boolean;
  readonly max_concurrent_evaluations: number;
  readonly organizations?: readonly string[] | undefined;
}

export interface WorkerConnectionTable {
  id: string;
  worker_id: string;
  /** The server that holds the session. Null: it is gone, and the session with it. */
  server_id: string | null;
  /** Those that the session speaks for: it proved itself to them, and no newer one of the worker has since. */
  organization_ids: string[];
  connected_at: CreatedAt;
  last_seen_at: Defaulted<Date>;
  disconnected_at: Date | null;
  description: Json<WorkerDescription>;
  /** What it measured last. */
  metrics: ColumnType<WorkerSample | null, string | undefined, string>;
}
