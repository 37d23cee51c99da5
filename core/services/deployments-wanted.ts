import type { DeployCache, WantedQuery, WantedView } from "../api/hosts.ts";
import { sumRuntimeClosures } from "../db/closure-sizes.ts";
import { findClosureStores } from "../db/closure-stores.ts";
import { listSubscriptions } from "../db/subscriptions.ts";
import type { Actor } from "../domain/actor.ts";
import { decideFor, isHostName } from "../domain/deployment.ts";
import { allowsCache, allowsOrganization } from "../domain/permissions.ts";
import { SubscriptionMode } from "../domain/subscription.ts";
import { DomainError } from "../errors.ts";
import { SECOND } from "../lib/clock.ts";
import { findCacheAccess, type ProjectAccess, requireProject } from "./access.ts";
import { describeDecision, type LoadedFleet, loadFleet, viewWanted } from "./deployments-fleet.ts";
import type { FleetWatch } from "./deployments-watch.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireStillSignedIn } from "./still-signed-in.ts";

export type WantedDeps = Pick<ServiceDeps, "db" | "settings">;

export interface HostAddress {
  readonly organization: string;
  readonly project: string;
  readonly host: string;
}

/** Proxies give up on an answer after a minute. */
const WAIT_MS_MAX: number = 50 * SECOND;
/** A system has a few thousand paths; more are not summed up for an answer. */
const CLOSURE_PATHS_MAX = 10_000;
const CACHES_MAX = 32;

/** What a host is to run, as far as the actor may see the project. Says the same of every host that nobody built. */
export async function getWanted(deps: WantedDeps, actor: Actor, address: HostAddress): Promise<WantedView> {
  const access = await requireHostOf(deps, actor, address);
  const loaded = await loadFleet(deps, access.project, [address.host]);
  return await viewWantedOf(deps, actor, { access, address, loaded });
}

/**
 * The same, when it is another than was seen; else as soon as it is, or when the time is over. Throws `unauthorized`
 * when the credentials ended meanwhile.
 */
export async function awaitWanted(
  deps: WantedDeps,
  actor: Actor,
  address: HostAddress,
  {
    query: { wait = 0, seen = "none", seen_state },
    watch,
    signal,
  }: { readonly query: WantedQuery; readonly watch: FleetWatch; readonly signal: AbortSignal },
): Promise<WantedView> {
  const first = await getWanted(deps, actor, address);
  const isSeen = (first.build?.build_id ?? "none") === seen && first.state === seen_state;
  if (wait === 0 || !isSeen) return first;
  const { project } = await requireHostOf(deps, actor, address);
  const atMostMs = Math.min(wait * SECOND, WAIT_MS_MAX);
  await watch.untilOther(project.id, address.host, { seen: { build: seen, state: first.state }, atMostMs, signal });
  await requireStillSignedIn(deps, actor);
  return await getWanted(deps, actor, address);
}

async function requireHostOf(deps: WantedDeps, actor: Actor, address: HostAddress): Promise<ProjectAccess> {
  const access = await requireProject(deps, actor, address, "read");
  requireHostName(address.host);
  return access;
}

/** Throws `not_found` for what is the name of no host. */
export function requireHostName(name: string): string {
  if (isHostName(name)) return name;
  throw new DomainError(
    "not_found",
    "Host not found: a host's name has 1 to 253 letters, digits and ._@+-, a letter, digit or _ first",
  );
}

interface Asked {
  readonly access: ProjectAccess;
  readonly address: HostAddress;
  readonly loaded: LoadedFleet;
}

async function viewWantedOf(
  deps: WantedDeps,
  actor: Actor,
  { access, address: { host }, loaded }: Asked,
): Promise<WantedView> {
  const { organization, project, member, mask } = access;
  const decision = decideFor(loaded.fleet, host, loaded.nowMs);
  const narSize = decision.state === "deploy" ? await narSizeOf(deps, organization.id, loaded, host) : null;
  return {
    host,
    project: `${organization.name}/${project.name}`,
    branch: loaded.fleet.branch,
    state: decision.state,
    reason: describeDecision(loaded, host, decision, { namesHosts: member }),
    build: viewWanted(loaded, host, decision, narSize),
    caches: await cachesFor(deps, actor, organization.id),
    can_report: member && allowsOrganization(mask, "reportDeployments"),
  };
}

/** Null for one that runs already, and where it is not known. */
async function narSizeOf(
  { db }: WantedDeps,
  organizationId: string,
  { rows, fleet }: LoadedFleet,
  host: string,
): Promise<number | null> {
  const row = rows.get(host);
  const running = fleet.hosts.find(({ name }) => name === host)?.runningPath;
  if (!row || running === row.store_path) return null;
  const stores = await findClosureStores(db, organizationId);
  const roots = [{ key: row.build_id, build_id: row.build_id }];
  const sums = await sumRuntimeClosures(db, stores, { roots, membersMax: CLOSURE_PATHS_MAX });
  return sums?.[0]?.bytes ?? null;
}

/** Caches where what the organization builds is, as far as the actor may read them: those that are written to first. */
async function cachesFor({ db, settings }: WantedDeps, actor: Actor, organizationId: string): Promise<DeployCache[]> {
  const caches: (DeployCache & { readonly written: boolean })[] = [];
  for (const { name, mode } of (await listSubscriptions(db, organizationId)).slice(0, CACHES_MAX)) {
    const access = await findCacheAccess({ db }, actor, name);
    if (!access?.cache.active || !allowsCache(access.mask, "readStore")) continue;
    const { public_key, priority, public: isPublic } = access.cache;
    caches.push({
      name,
      url: `${settings.serveUrl}/cache/${name}`,
      public_keys: public_key.split(" ").filter((key) => key !== ""),
      private: !isPublic,
      priority,
      written: mode !== SubscriptionMode.ReadOnly,
    });
  }
  const order = (one: (typeof caches)[number], other: (typeof caches)[number]) =>
    Number(other.written) - Number(one.written) || one.priority - other.priority;
  return caches.sort(order).map(({ written: _, ...cache }) => cache);
}
