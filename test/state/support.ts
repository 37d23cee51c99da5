import { createHash, randomBytes } from "node:crypto";
import { describeProblem } from "#core/api/state.ts";
import { concatBytes, toBase64 } from "#core/lib/bytes.ts";
import { generateKeyPair } from "#core/nix/signature.ts";
import { generateSshKey } from "#core/services/ssh-key.ts";
import { type AppliedState, applyState } from "#core/services/state-apply.ts";
import { checkState } from "#core/services/state-check.ts";
import type { StateRules } from "#core/services/state-checks.ts";
import { type SecretKind, secretsOf } from "#core/services/state-secrets.ts";
import type { TestApp } from "#test/handlers/support.ts";

/** A state file's JSON, as loosely typed as somebody writes it. */
// biome-ignore lint/suspicious/noExplicitAny: tests put in whatever may be in a file
export type Json = any;

export const RULES: StateRules = { allowLocalSources: false, mailEnabled: null };
export const WORKER = "550e8400-e29b-41d4-a716-446655440001";
export const BASE_WORKER = "550e8400-e29b-41d4-a716-446655440002";
export const IDENTITY = "550e8400-e29b-41d4-a716-446655440003";
export const ARGON2_HASH =
  "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$uJ8PvWdnS0kT6DcTnfMs3ml8pWn0lqIhWn5CFP3pEKE";

/** A file with everything in it that a file can have. */
export function everything(): Json {
  return {
    users: {
      alice: {
        name: "Alice",
        email: "alice@example.com",
        password_file: "/run/secrets/alice",
        superuser: true,
      },
      bob: { username: "bob", name: null, email: "bob@example.com", password_file: null, email_verified: false },
    },
    organizations: {
      acme: {
        display_name: "ACME",
        description: "Makes everything",
        id: "0193b1a0-0000-7000-8000-0000000000aa",
        private_key_file: "/run/secrets/acme-ssh",
        public: true,
        hide_build_requests: true,
        created_by: "alice",
        members: [
          { user: "alice", role: "Admin" },
          { user: "bob", role: "deployer" },
          { user: "carol", role: "Write" },
        ],
      },
      globex: { name: "globex", created_by: "bob" },
    },
    roles: {
      deployer: {
        organization: "acme",
        permissions: ["viewOrg", "triggerEvaluation"],
        oidc_group: ["ops", "release"],
        scim_group: [],
      },
      "globex-deployer": { name: "deployer", organization: "globex", permissions: ["viewOrg"] },
    },
    integrations: {
      forge: {
        organization: "acme",
        created_by: "alice",
        kind: "inbound",
        forge_type: "forgejo",
        secret_file: "/run/secrets/forge-hook",
        has_secret_file: true,
        has_access_token_file: false,
      },
      "forge-out": {
        name: "forge",
        display_name: "Our forge",
        organization: "acme",
        created_by: "alice",
        kind: "outbound",
        forge_type: "forgejo",
        endpoint_url: "https://forge.example.com/",
        access_token_file: "/run/secrets/forge-token",
      },
    },
    projects: {
      web: {
        organization: "acme",
        display_name: "Web",
        repository: "https://forge.example.com/acme/web.git",
        wildcard: "packages.x86_64-linux.*, checks.x86_64-linux.#",
        keep_evaluations: 3,
        concurrency: "skip",
        triggers: [
          { type: "polling", config: { interval_secs: 60, branch: "main" } },
          { type: "reporter_push", integration: "forge", config: { branches: ["main"] } },
          { type: "reporter_pull_request", integration: "forge" },
          { type: "time", config: { cron: "0 30 4 * * *" }, active: false },
        ],
        flake_input_overrides: {
          nixpkgs: { url: "github:NixOS/nixpkgs/nixos-unstable" },
          "flake-utils": { keep_url: true, url: null },
        },
        actions: [
          {
            name: "Tell the room",
            type: "send_web_request",
            config: { url: "https://chat.example.com/hook", token_file: "/run/secrets/chat" },
            events: ["evaluation.failed", "build.failed"],
          },
          {
            name: "mail",
            type: "send_mail",
            config: { recipients: ["ops@example.com"], subject_template: "{project} {status}" },
            events: ["evaluation.failed"],
            active: false,
          },
        ],
        created_by: "alice",
      },
      "globex-web": {
        name: "web",
        organization: "globex",
        repository: "git@forge.example.com:globex/web.git",
        evaluation_wildcard: "*",
        active: false,
        sign_cache: false,
        created_by: "bob",
      },
    },
    caches: {
      main: {
        display_name: "Main",
        description: "Ours",
        priority: 30,
        local_priority: 5,
        max_storage_gb: 100,
        signing_key_file: "/run/secrets/main-key",
        organizations: ["acme", { name: "globex", mode: "ReadOnly" }],
        upstreams: [
          { type: "internal", cache_name: "base" },
          {
            type: "external",
            display_name: "cache.nixos.org",
            url: "https://cache.nixos.org/",
            public_key: "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
          },
          {
            type: "gradient_proto",
            url: "https://gradient.example.org",
            remote_cache: "main",
            public_key: "gradient.example.org-main:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
            api_key_file: "/run/secrets/other-gradient",
          },
        ],
        created_by: "alice",
        roles: [{ name: "pusher", permissions: ["viewCache", "readStore", "writeStore"] }],
        members: [{ user: "bob", role: "pusher" }],
      },
      base: { public: true, created_by: "bob" },
    },
    api_keys: {
      deploy: {
        owned_by: "alice",
        key_file: "/run/secrets/deploy-key",
        permissions: ["viewOrg", "triggerEvaluation"],
        organization: "acme",
        allowed_ips: ["10.0.0.0/8"],
        expires_at: "2099-01-31T00:00:00Z",
      },
      "push key": {
        owned_by: "bob",
        key_file: "/run/secrets/push-key",
        permissions: ["viewCache", "writeStore"],
        cache: "main",
      },
    },
    workers: {
      builder: {
        worker_id: WORKER,
        url: "ws://builder.example.com:3100/proto",
        organizations: ["acme", "globex"],
        token_file: "/run/secrets/builder",
        created_by: "alice",
        enable_eval: false,
      },
      shared: {
        worker_id: BASE_WORKER,
        display_name: "Shared",
        organizations: ["acme"],
        token_file: "/run/secrets/shared",
        created_by: "alice",
        base_worker: true,
        authorize_against: IDENTITY,
      },
    },
  };
}

const made = new Map<string, Promise<string>>();

/** Right contents for a secret; the same for the same file, always. */
export function secretFor(kind: SecretKind, file: string): Promise<string> {
  const text = made.get(file) ?? makeSecret(kind, file);
  made.set(file, text);
  return text;
}

async function makeSecret(kind: SecretKind, file: string): Promise<string> {
  switch (kind) {
    case "password_hash":
      return ARGON2_HASH;
    case "api_key_hash":
      return createHash("sha256").update(file).digest("hex");
    case "worker_token":
      return randomBytes(48).toString("base64");
    case "ssh_key":
      return (await generateSshKey("test")).secretKey.trim();
    case "signing_key": {
      const { secretKey } = await generateKeyPair("test");
      return toBase64(concatBytes([secretKey.seed, secretKey.publicBytes]));
    }
    case "text":
      return `secret of ${file}`;
  }
}

export interface ApplyOptions {
  readonly deleteUnlisted?: boolean;
  readonly keepEvaluations?: number;
  /** By the path of their file, in place of ones that are made up. */
  readonly secrets?: Readonly<Record<string, string>>;
}

/** Checks the document and applies it to the test's server. Throws with every problem of it. */
export async function apply(
  { deps }: Pick<TestApp, "deps">,
  json: Json,
  { deleteUnlisted = true, keepEvaluations = 5, secrets: given = {} }: ApplyOptions = {},
): Promise<AppliedState> {
  const { document, problems } = checkState(json, RULES);
  if (problems.length > 0) throw new Error(problems.map(describeProblem).join("\n"));
  const secrets = new Map<string, string>();
  for (const { credential, kind, file } of secretsOf(document)) {
    secrets.set(credential, given[file] ?? (await secretFor(kind, file)));
  }
  const stateDeps = { ...deps, projects: { keepEvaluations } };
  return await applyState(stateDeps, { document, secrets, options: { deleteUnlisted } });
}

/** What was done, one line each, sorted. */
export function changesOf({ changes }: AppliedState): string[] {
  return changes.map(({ did, what }) => `${did}: ${what}`).sort();
}

/** Every problem of a document, as the operator reads it. */
export function problemsOf(json: Json, rules: Partial<StateRules> = {}): string[] {
  return checkState(json, { ...RULES, ...rules }).problems.map(describeProblem);
}

/** Which version each row of each table is: a row that was written again, if only with the same, is another one. */
export async function rowVersions({ pool }: Pick<TestApp, "pool">): Promise<Record<string, string[]>> {
  const tables = await pool.query<{ name: string }>(
    "select tablename as name from pg_tables where schemaname = 'public' and tablename not like 'kysely%' order by 1",
  );
  const versions: Record<string, string[]> = {};
  for (const { name } of tables.rows) {
    const { rows } = await pool.query<{ row: string }>(
      `select t.xmin::text || ' ' || t.ctid::text || ' ' || t::text as row from "${name}" t order by 1`,
    );
    versions[name] = rows.map(({ row }) => row);
  }
  return versions;
}
