import type { StateApiKey, StateOrganization, StatePath, StateRole, StateWorker } from "../api/state.ts";
import { unknownWord } from "../api/state-fields.ts";
import { requireAddressableSlug, requireSlug } from "../domain/names.ts";
import { CACHE_PERMISSIONS, ORGANIZATION_PERMISSIONS } from "../domain/permissions.ts";
import { requireEndpointUrl } from "./integration-rules.ts";
import { parseAllowedIps, requireKeyName } from "./key-rules.ts";
import type { StateChecks } from "./state-checks.ts";

/** Names that every organization and every cache has already. */
const BUILT_IN_ROLES: readonly string[] = ["Admin", "Write", "View"];
/** As people register, but for the length and reserved words: the operator may call a user `admin`. */
const USERNAME = /^[A-Za-z0-9]+([_-][A-Za-z0-9]+)*$/;
const USERNAME_LENGTH_MAX = 50;
const WORKER_URL_PROTOCOLS: readonly string[] = ["http:", "https:", "ws:", "wss:"];

/** Users, organizations with their members and roles, API keys, workers and integrations. */
export function checkAccounts(checks: StateChecks): void {
  checkUsers(checks);
  for (const organization of checks.document.organizations) checkOrganization(checks, organization);
  for (const role of checks.document.roles) checkRole(checks, role);
  for (const key of checks.document.api_keys) checkApiKey(checks, key);
  for (const worker of checks.document.workers) checkWorker(checks, worker);
  checkIntegrations(checks);
  checkDuplicates(checks);
}

/** What a member of an organization or a cache may be there; `own` are the roles that it declares itself. */
export function checkMembers(
  checks: StateChecks,
  path: StatePath,
  members: readonly { readonly user: string; readonly role: string }[],
  own: readonly string[],
): void {
  const known = [...BUILT_IN_ROLES, ...own];
  const seen = new Set<string>();
  members.forEach(({ user, role }, index) => {
    const at = [...path, "members", index];
    if (!known.includes(role)) {
      checks.report([...at, "role"], `no role ${role} is declared there; what is: ${known.join(", ")}`);
    }
    if (seen.has(user.toLowerCase())) checks.report([...at, "user"], `${user} is a member already`);
    seen.add(user.toLowerCase());
  });
}

export function checkPermissions(
  checks: StateChecks,
  path: StatePath,
  permissions: readonly string[],
  known: readonly string[],
): void {
  permissions.forEach((permission, index) => {
    if (!known.includes(permission)) {
      checks.report([...path, "permissions", index], `${permission} ${unknownWord(permission, known)}`);
    }
  });
}

export function checkRoleName(checks: StateChecks, path: StatePath, name: string): void {
  if (BUILT_IN_ROLES.includes(name)) {
    checks.report(path, `is that of a built-in role (${BUILT_IN_ROLES.join(", ")}): choose another one`);
  } else checks.require(path, () => requireSlug(name, "name"));
}

function checkUsers(checks: StateChecks): void {
  for (const { key, username } of checks.document.users) {
    if (username.length > USERNAME_LENGTH_MAX || !USERNAME.test(username)) {
      const form = "letters (A-Z, a-z), digits, and single `_` or `-` between them";
      checks.report(["users", key, "username"], `must be 1 to ${USERNAME_LENGTH_MAX} ${form}`);
    }
  }
}

function checkOrganization(checks: StateChecks, { key, name, created_by, members }: StateOrganization): void {
  const path = ["organizations", key];
  checks.require([...path, "name"], () => requireAddressableSlug(name, "name"));
  checks.user([...path, "created_by"], created_by);
  checkMembers(checks, path, members, checks.rolesOf(name));
}

function checkRole(checks: StateChecks, { key, name, organization, permissions }: StateRole): void {
  const path = ["roles", key];
  checkRoleName(checks, [...path, "name"], name);
  checks.organization([...path, "organization"], organization);
  checkPermissions(checks, path, permissions, ORGANIZATION_PERMISSIONS);
}

function checkApiKey(checks: StateChecks, entry: StateApiKey): void {
  const path = ["api_keys", entry.key];
  checks.require([...path, "name"], () => requireKeyName(entry.name));
  checks.user([...path, "owned_by"], entry.owned_by);
  if (entry.organization != null) checks.organization([...path, "organization"], entry.organization);
  if (entry.cache != null) checks.cache([...path, "cache"], entry.cache);
  if (entry.organization != null && entry.cache != null) {
    checks.report(path, "is pinned to an organization and to a cache: a key is for one of the two at most");
  }
  checkPermissions(checks, path, entry.permissions, entry.cache == null ? ORGANIZATION_PERMISSIONS : CACHE_PERMISSIONS);
  checks.require([...path, "allowed_ips"], () => parseAllowedIps(entry.allowed_ips));
}

function checkWorker(checks: StateChecks, worker: StateWorker): void {
  const path = ["workers", worker.key];
  checks.user([...path, "created_by"], worker.created_by);
  if (worker.organizations.length === 0 && !worker.base_worker) {
    checks.report([...path, "organizations"], "is empty: name whom it works for, or say base_worker = true");
  }
  worker.organizations.forEach((name, index) => {
    checks.organization([...path, "organizations", index], name);
  });
  if (worker.authorize_against != null && !worker.base_worker) {
    checks.report([...path, "authorize_against"], "is for base workers only: say base_worker = true, or leave it out");
  }
  if (worker.url == null) return;
  const url = URL.canParse(worker.url) ? new URL(worker.url) : null;
  if (!url || !WORKER_URL_PROTOCOLS.includes(url.protocol) || url.username || url.password) {
    checks.report([...path, "url"], "must be a ws, wss, http or https URL without a user name and password");
  }
}

function checkIntegrations(checks: StateChecks): void {
  for (const entry of checks.document.integrations) {
    const path = ["integrations", entry.key];
    checks.require([...path, "name"], () => requireSlug(entry.name, "name"));
    checks.organization([...path, "organization"], entry.organization);
    checks.user([...path, "created_by"], entry.created_by);
    if (entry.forge_type === "github" && entry.installation_id == null) {
      checks.report([...path, "installation_id"], "is missing: GitHub is spoken to through an installation of the App");
    }
    checks.require([...path, "endpoint_url"], () => requireEndpointUrl(entry.endpoint_url));
  }
}

function checkDuplicates(checks: StateChecks): void {
  const { users, organizations, roles, integrations, api_keys } = checks.document;
  const twice = (words: string) => `${words} is declared twice in this file`;
  checks.unique(
    users,
    ({ username }) => username.toLowerCase(),
    ({ key, username }) => ({ path: ["users", key], message: twice(`the user ${username}`) }),
  );
  checks.unique(
    users.filter(({ email }) => email !== ""),
    ({ email }) => email.toLowerCase(),
    ({ key }) => ({ path: ["users", key, "email"], message: "belongs to another user of this file" }),
  );
  checks.unique(
    organizations,
    ({ name }) => name,
    ({ key, name }) => ({ path: ["organizations", key], message: twice(`the organization ${name}`) }),
  );
  checks.unique(
    organizations.filter(({ id }) => id != null),
    ({ id }) => id as string,
    ({ key }) => ({ path: ["organizations", key, "id"], message: "belongs to another organization of this file" }),
  );
  checks.unique(
    roles,
    ({ name, organization }) => JSON.stringify([organization, name]),
    ({ key, name, organization }) => ({ path: ["roles", key], message: twice(`the role ${name} of ${organization}`) }),
  );
  checks.unique(
    integrations,
    ({ name, organization, kind }) => JSON.stringify([organization, kind, name]),
    ({ key, name, organization, kind }) => {
      return { path: ["integrations", key], message: twice(`the ${kind} integration ${name} of ${organization}`) };
    },
  );
  checks.unique(
    api_keys,
    ({ name, owned_by }) => JSON.stringify([owned_by.toLowerCase(), name]),
    ({ key, name, owned_by }) => ({ path: ["api_keys", key], message: twice(`the API key ${name} of ${owned_by}`) }),
  );
  checkWorkerPlaces(checks);
}

interface WorkerPlace {
  readonly path: StatePath;
  readonly worker_id: string;
  /** Of an organization; null for a worker of the whole server. */
  readonly name: string | null;
}

/** Entries of one worker may say different things of it for different organizations. */
function checkWorkerPlaces(checks: StateChecks): void {
  const places = checks.document.workers.flatMap(({ key, worker_id, base_worker, organizations }): WorkerPlace[] => {
    if (base_worker) return [{ path: ["workers", key], worker_id, name: null }];
    return organizations.map((name, index) => ({ path: ["workers", key, "organizations", index], worker_id, name }));
  });
  checks.unique(
    places,
    ({ worker_id, name }) => JSON.stringify([worker_id, name]),
    ({ path, worker_id, name }) => {
      const what = name === null ? `the base worker ${worker_id}` : `the worker ${worker_id} of ${name}`;
      return { path, message: `${what} is declared twice in this file` };
    },
  );
}
