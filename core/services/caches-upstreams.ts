import type { AddUpstreamBody, ChangeUpstreamBody, UpstreamView } from "../api/caches-upstreams.ts";
import type { CacheView } from "../db/caches.ts";
import type { CacheUpstreamRow } from "../db/tables/upstreams.ts";
import { inTransaction } from "../db/transaction.ts";
import { forgetUpstreamPaths } from "../db/upstream-paths.ts";
import {
  deleteUpstream,
  findUpstream,
  insertUpstream,
  type ListedUpstream,
  listUpstreamsOfCache,
  type UpstreamChanges,
  UpstreamKind,
  updateUpstream,
} from "../db/upstreams.ts";
import { uniqueViolation } from "../db/violations.ts";
import type { Actor } from "../domain/actor.ts";
import { requireDisplayName } from "../domain/names.ts";
import { allowsCache } from "../domain/permissions.ts";
import { SubscriptionMode, subscriptionModeName } from "../domain/subscription.ts";
import { DomainError } from "../errors.ts";
import { utf8 } from "../lib/bytes.ts";
import { isUuid, uuidV7 } from "../lib/ids.ts";
import type { Outbound } from "../ports/outbound.ts";
import { findCacheAccess, requireCache } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";
import { apiKeyPlace } from "./upstream-directory.ts";
import {
  fetchRemoteKey,
  refuseItself,
  requireApiKey,
  requirePublicKeys,
  requireRemoteCache,
  requireUpstreamUrl,
} from "./upstream-rules.ts";

export type UpstreamAdminDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "notifier" | "secrets" | "settings"> & {
  readonly outbound: Outbound;
};

/** Each path that a cache does not have is asked for at all of them. */
const UPSTREAMS_MAX = 16;
const KIND_NAMES = ["internal", "gradientproto", "http"] as const;

/** What a new cache rests on: nixpkgs as its own project builds it. */
export const FIRST_UPSTREAM = {
  kind: UpstreamKind.Http,
  display_name: "cache.nixos.org",
  url: "https://cache.nixos.org",
  public_keys: ["cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="],
};

/** Caches of this server that the actor may not see are shown only to who may take them away. */
export async function listUpstreams(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  cacheName: string,
): Promise<UpstreamView[]> {
  const { cache, mask } = await requireCache(deps, actor, cacheName, "read");
  const views: UpstreamView[] = [];
  for (const row of await listUpstreamsOfCache(deps.db, cache.id)) {
    const visible = await isVisible(deps, actor, row);
    if (visible || allowsCache(mask, "manageCacheUpstreams")) views.push(viewUpstream(row, visible));
  }
  return views;
}

/** Its id. */
export async function addUpstream(
  deps: UpstreamAdminDeps,
  actor: Actor,
  cacheName: string,
  body: AddUpstreamBody,
): Promise<string> {
  const { cache } = await requireUpstreamsOf(deps, actor, cacheName);
  const id = uuidV7(deps.clock.now(), deps.random);
  const upstream = {
    id,
    cache_id: cache.id,
    mode: SubscriptionMode[body.mode],
    added_by: actor.user?.id ?? null,
    ...(await sourceOf(deps, actor, { id, cache, body })),
  };
  if ((await listUpstreamsOfCache(deps.db, cache.id)).length >= UPSTREAMS_MAX) {
    throw new DomainError("bad_request", `A cache has at most ${UPSTREAMS_MAX} upstreams: remove one first`);
  }
  await insertUpstream(deps.db, upstream).catch(taken);
  announce(deps, cache.id);
  return id;
}

/** With another address or other keys, nothing that was seen there before counts. */
export async function changeUpstream(
  deps: UpstreamAdminDeps,
  actor: Actor,
  { cacheName, id }: { readonly cacheName: string; readonly id: string },
  body: ChangeUpstreamBody,
): Promise<void> {
  const { cache } = await requireUpstreamsOf(deps, actor, cacheName);
  const row = isUuid(id) ? await findUpstream(deps.db, { id, cacheId: cache.id }) : undefined;
  if (!row) throw unknownUpstream();
  const changes: UpstreamChanges = {};
  if (body.display_name !== undefined) changes.display_name = requireDisplayName(body.display_name, "display_name");
  if (body.mode !== undefined) changes.mode = SubscriptionMode[body.mode];
  if (body.url !== undefined) {
    requireKind(row, "url", [UpstreamKind.Http]);
    changes.url = requireUpstreamUrl(body.url);
    refuseItself(changes.url, { serveUrl: deps.settings.serveUrl, cacheName: cache.name });
  }
  if (body.public_key !== undefined) {
    requireKind(row, "public_key", [UpstreamKind.Http, UpstreamKind.Gradient]);
    changes.public_keys = requirePublicKeys(body.public_key);
  }
  if (body.api_key !== undefined) {
    requireKind(row, "api_key", [UpstreamKind.Gradient]);
    changes.api_key = body.api_key === null ? null : await sealedKey(deps, row.id, body.api_key, row.url ?? "");
  }
  if (Object.keys(changes).length === 0) throw new DomainError("validation", "Nothing to change was given");
  await inTransaction(deps.db, async (trx) => {
    if (!(await updateUpstream(trx, { id, cacheId: cache.id }, changes))) throw unknownUpstream();
    if (changes.url !== undefined || changes.public_keys !== undefined) await forgetUpstreamPaths(trx, id);
  }).catch(taken);
  announce(deps, cache.id);
}

export async function removeUpstream(
  deps: Pick<ServiceDeps, "db" | "notifier">,
  actor: Actor,
  { cacheName, id }: { readonly cacheName: string; readonly id: string },
): Promise<void> {
  const { cache } = await requireUpstreamsOf(deps, actor, cacheName);
  if (!isUuid(id) || !(await deleteUpstream(deps.db, { id, cacheId: cache.id }))) throw unknownUpstream();
  announce(deps, cache.id);
}

function requireUpstreamsOf(deps: Pick<ServiceDeps, "db">, actor: Actor, cacheName: string) {
  return requireCache(deps, actor, cacheName, "manageCacheUpstreams", { unmanaged: true });
}

interface Addition {
  readonly id: string;
  readonly cache: CacheView;
  readonly body: AddUpstreamBody;
}

async function sourceOf(deps: UpstreamAdminDeps, actor: Actor, { id, cache, body }: Addition) {
  if (body.type === "internal") return await internalSource(deps, actor, cache, body);
  const display_name = requireDisplayName(body.display_name, "display_name");
  const url = requireUpstreamUrl(body.url);
  const self = { serveUrl: deps.settings.serveUrl, cacheName: cache.name };
  if (body.type === "http") {
    refuseItself(url, self);
    return { kind: UpstreamKind.Http, display_name, url, public_keys: requirePublicKeys(body.public_key) };
  }
  const remoteCache = requireRemoteCache(body.remote_cache);
  refuseItself(`${url}/cache/${remoteCache}`, self);
  const apiKey = body.api_key === undefined ? null : requireApiKey(body.api_key, url);
  const public_keys =
    body.public_key === undefined
      ? await fetchRemoteKey(deps.outbound, { url, remoteCache, apiKey })
      : requirePublicKeys(body.public_key);
  const api_key = apiKey === null ? null : await sealedKey(deps, id, apiKey, url);
  return { kind: UpstreamKind.Gradient, display_name, url, remote_cache: remoteCache, public_keys, api_key };
}

async function internalSource(
  deps: UpstreamAdminDeps,
  actor: Actor,
  cache: CacheView,
  body: AddUpstreamBody & { readonly type: "internal" },
) {
  const access = await findCacheAccess(deps, actor, body.cache_name);
  if (!access?.visible || !allowsCache(access.mask, "readStore")) throw new DomainError("not_found", "Cache not found");
  const { cache: source } = access;
  if (source.id === cache.id) throw new DomainError("validation", "cache_name: is this cache itself");
  if (cache.public && !source.public) {
    throw new DomainError("validation", "cache_name: that cache is private, and everybody would read it through this");
  }
  return {
    kind: UpstreamKind.Internal,
    display_name: requireDisplayName(body.display_name ?? source.display_name, "display_name"),
    url: null,
    public_keys: [],
    upstream_cache_id: source.id,
  };
}

async function sealedKey(deps: UpstreamAdminDeps, id: string, apiKey: string, url: string): Promise<Uint8Array> {
  return await deps.secrets.seal(apiKeyPlace(id), utf8(requireApiKey(apiKey, url)));
}

function requireKind({ kind }: CacheUpstreamRow, field: string, kinds: readonly number[]): void {
  if (kinds.includes(kind)) return;
  throw new DomainError("validation", `${field}: cannot be changed here: remove the upstream and add it anew`);
}

async function isVisible(deps: Pick<ServiceDeps, "db">, actor: Actor, row: ListedUpstream): Promise<boolean> {
  if (row.kind !== UpstreamKind.Internal) return true;
  const access = row.upstream_cache_name === null ? null : await findCacheAccess(deps, actor, row.upstream_cache_name);
  return access?.visible === true;
}

function viewUpstream(row: ListedUpstream, visible: boolean): UpstreamView {
  const { id, display_name, mode, kind, url, public_keys, upstream_cache_id, remote_cache } = row;
  return {
    id,
    display_name,
    mode: subscriptionModeName(mode),
    upstream_cache_id: visible ? upstream_cache_id : null,
    url,
    public_key: public_keys.length > 0 ? public_keys.join(" ") : null,
    kind: KIND_NAMES[kind] ?? "http",
    remote_cache,
  };
}

/** Servers that remember the upstreams of this cache look again. */
function announce({ notifier }: Pick<ServiceDeps, "notifier">, cacheId: string): void {
  notifier.notify("path", `${cacheId}/`);
}

function unknownUpstream(): DomainError {
  return new DomainError("not_found", "Upstream not found");
}

function taken(error: unknown): never {
  if (uniqueViolation(error) !== "cache_upstream_url_key") throw error;
  throw new DomainError("already_exists", "url: the cache has this upstream already");
}
