import type { RegisterBody } from "../api/auth.ts";
import type { CreateCacheBody } from "../api/caches.ts";
import type { CreateOrganizationBody } from "../api/organizations.ts";
import type { CreateProjectBody } from "../api/projects.ts";
import { findUserForLogin } from "../db/users.ts";
import { findRegistrationSecret, updateRegistration } from "../db/worker-registrations.ts";
import type { Actor } from "../domain/actor.ts";
import type { SubscriptionModeName } from "../domain/subscription.ts";
import { DomainError } from "../errors.ts";
import { requireCache, requireOrganization, requireProject } from "./access.ts";
import { createCache } from "./caches.ts";
import type { ServiceDeps } from "./deps.ts";
import { createOrganization } from "./organizations.ts";
import { createProject } from "./projects.ts";
import type { ProjectDeps } from "./projects-deps.ts";
import { createUser } from "./registration.ts";
import { listSubscribedCaches, subscribe } from "./subscriptions.ts";
import { registerWorker, requireWorkerId, requireWorkerToken } from "./workers.ts";

/**
 * What whoever runs the server sets up on it, by the same services that requests use. Each function may be repeated:
 * what exists is left as it is. The actor must be allowed to make it, and to see it where it exists.
 */

type EnsureDeps = ServiceDeps;

/** The user as an actor. An existing one keeps its password, its name and its rights. */
export async function ensureUser(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "passwords">,
  user: RegisterBody & { readonly superuser: boolean },
): Promise<Actor> {
  await unlessExists(() => createUser(deps, user));
  const found = await findUserForLogin(deps.db, user.username);
  if (!found) throw new DomainError("conflict", `email ${user.email} belongs to a user of another name`);
  const { id, username, superuser } = found;
  return { user: { id, username, superuser }, key: null, sessionId: null };
}

/** The organization's id. */
export async function ensureOrganization(
  deps: EnsureDeps,
  actor: Actor,
  organization: CreateOrganizationBody,
): Promise<string> {
  await unlessExists(() => createOrganization(deps, actor, organization));
  return (await requireOrganization(deps, actor, organization.name, "member")).organization.id;
}

/** The cache's id. */
export async function ensureCache(deps: EnsureDeps, actor: Actor, cache: CreateCacheBody): Promise<string> {
  await unlessExists(() => createCache(deps, actor, cache));
  return (await requireCache(deps, actor, cache.name, "member")).cache.id;
}

/** An existing subscription keeps its mode. */
export async function ensureSubscription(
  deps: EnsureDeps,
  actor: Actor,
  names: { readonly organization: string; readonly cache: string },
  mode: SubscriptionModeName,
): Promise<void> {
  const subscribed = await listSubscribedCaches(deps, actor, names.organization);
  if (subscribed.some((cache) => cache.name === names.cache)) return;
  await unlessExists(() => subscribe(deps, actor, names, { mode }));
}

/** The project's id. */
export async function ensureProject(
  deps: ProjectDeps,
  actor: Actor,
  organization: string,
  project: CreateProjectBody,
): Promise<string> {
  await unlessExists(() => createProject(deps, actor, organization, project));
  return (await requireProject(deps, actor, { organization, project: project.name }, "read")).project.id;
}

/** The peer id that the worker's peers file names. A registration under another token takes this one. */
export async function ensureWorker(
  deps: EnsureDeps,
  actor: Actor,
  organizationName: string,
  worker: { readonly workerId: string; readonly token: string; readonly displayName: string },
): Promise<string> {
  const { organization } = await requireOrganization(deps, actor, organizationName, "manageWorkers");
  const workerId = requireWorkerId(worker.workerId);
  const token = requireWorkerToken(worker.token);
  const body = { worker_id: workerId, display_name: worker.displayName, token };
  const everything = { enable_fetch: true, enable_eval: true, enable_build: true };
  await unlessExists(() => registerWorker(deps, actor, organizationName, { ...body, ...everything }));
  const registration = await findRegistrationSecret(deps.db, organization.id, workerId);
  if (registration && !(await deps.passwords.verify(registration.token_hash, token))) {
    await updateRegistration(deps.db, registration.id, { token_hash: await deps.passwords.hash(token) });
    deps.notifier.notify("registration", `${organization.id}/${workerId}`);
  }
  return organization.id;
}

async function unlessExists(create: () => Promise<unknown>): Promise<void> {
  try {
    await create();
  } catch (error) {
    if (!(error instanceof DomainError) || error.code !== "already_exists") throw error;
  }
}
