import type { StateDocument, StatePath } from "../api/state.ts";
import { utf8 } from "../lib/bytes.ts";
import type { StateChecks } from "./state-checks.ts";

/** What the contents of a secret's file have to be. */
export type SecretKind = "password_hash" | "ssh_key" | "signing_key" | "api_key_hash" | "worker_token" | "text";

/** A secret that the file names and does not hold. */
export interface SecretNeed {
  readonly path: StatePath;
  readonly kind: SecretKind;
  /** Where the file says that it is. */
  readonly file: string;
  /** What systemd calls it. */
  readonly credential: string;
}

/** The contents of the secrets, without the white space around them, by the name of their credential. */
export type StateSecrets = ReadonlyMap<string, string>;

/** systemd takes no longer name of a file for a credential. */
const NAME_BYTES_MAX = 255;

/**
 * What systemd calls the secret of a thing: `gradient_user_alice_password`. What may not be in a file's name, or would
 * be a path, is a dash.
 */
function credentialName(kind: string, names: readonly string[], what: string): string {
  return ["gradient", kind, ...names.map((name) => name.replace(/[^A-Za-z0-9._@+-]/g, "-")), what].join("_");
}

/** Every secret that the document names, in the order of its sections. */
export function secretsOf(document: StateDocument): SecretNeed[] {
  const needs: SecretNeed[] = [];
  const need = (path: StatePath, file: string | null | undefined, kind: SecretKind, credential: string) => {
    if (file != null) needs.push({ path, kind, file, credential });
  };
  for (const { key, username, password_file: file } of document.users) {
    need(["users", key, "password_file"], file, "password_hash", secretNames.password(username));
  }
  for (const { key, name, private_key_file: file } of document.organizations) {
    need(["organizations", key, "private_key_file"], file, "ssh_key", secretNames.sshKey(name));
  }
  for (const entry of document.integrations) {
    const path = ["integrations", entry.key];
    need([...path, "secret_file"], entry.secret_file, "text", secretNames.integration(entry, "secret"));
    need([...path, "access_token_file"], entry.access_token_file, "text", secretNames.integration(entry, "token"));
  }
  for (const project of document.projects) {
    project.actions.forEach((action, index) => {
      if (action.type !== "send_web_request") return;
      const path = ["projects", project.key, "actions", index, "config", "token_file"];
      need(path, action.config.token_file, "text", secretNames.action(project, action.name));
    });
  }
  for (const cache of document.caches) {
    const { key, name, signing_key_file: file } = cache;
    need(["caches", key, "signing_key_file"], file, "signing_key", secretNames.signingKey(name));
    cache.upstreams.forEach((upstream, index) => {
      if (upstream.type !== "gradient_proto") return;
      const path = ["caches", key, "upstreams", index, "api_key_file"];
      need(path, upstream.api_key_file, "text", secretNames.upstream(name, upstream));
    });
  }
  for (const entry of document.api_keys) {
    need(["api_keys", entry.key, "key_file"], entry.key_file, "api_key_hash", secretNames.apiKey(entry));
  }
  for (const { key, worker_id, token_file: file } of document.workers) {
    need(["workers", key, "token_file"], file, "worker_token", secretNames.workerToken(worker_id));
  }
  return needs;
}

/** The names of credentials, which the NixOS module gives to systemd. */
export const secretNames = {
  password: (username: string) => credentialName("user", [username], "password"),
  sshKey: (organization: string) => credentialName("org", [organization], "private_key"),
  signingKey: (cache: string) => credentialName("cache", [cache], "signing_key"),
  apiKey: ({ owned_by, name }: { readonly owned_by: string; readonly name: string }) =>
    credentialName("api", [owned_by, name], "key"),
  workerToken: (workerId: string) => credentialName("worker", [workerId], "token"),
  integration: (
    { organization, kind, name }: { readonly organization: string; readonly kind: string; readonly name: string },
    what: "secret" | "token",
  ) => credentialName("integration", [organization, kind, name], what),
  action: ({ organization, name }: { readonly organization: string; readonly name: string }, action: string) =>
    credentialName("action", [organization, name, action], "token"),
  upstream: (cache: string, { url, remote_cache }: { readonly url: string; readonly remote_cache: string }) =>
    credentialName("upstream", [cache, url, remote_cache], "key"),
} as const;

/** Two secrets must not be read from one credential, and one that everybody can read is none. */
export function checkSecretNames(checks: StateChecks): void {
  const needs = secretsOf(checks.document);
  checks.unique(
    needs,
    ({ credential }) => credential,
    ({ path, credential }) => ({
      path,
      message: `would be the credential ${credential}, as another secret of this file: rename one of the two`,
    }),
  );
  for (const { path, file, credential } of needs) {
    if (utf8(credential).length > NAME_BYTES_MAX) {
      checks.report(path, `would be the credential ${credential}, whose name is too long: choose a shorter one`);
    }
    if (file.startsWith("/nix/store/")) {
      checks.warn(path, `${file} is in the Nix store, where everybody on the machine can read it`);
    }
  }
}
