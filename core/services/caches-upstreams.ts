import type { AddUpstreamBody, ChangeUpstreamBody, UpstreamView } from "../api/caches-upstreams.ts";
import type { CacheUpstreamRow } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { forgetUpstreamPaths } from "../db/upstream-paths.ts";
import {
  deleteUpstream,
  insertUpstream,
  listUpstreamsOfCache,
  type UpstreamChanges,
  updateUpstream,
} from "../db/upstreams.ts";
import { uniqueViolation } from "../db/violations.ts";
import type { Actor } from "../domain/actor.ts";
import { requireDisplayName } from "../domain/names.ts";
import { SubscriptionMode, subscriptionModeName } from "../domain/subscription.ts";
import { DomainError } from "../errors.ts";
import { isUuid, uuidV7 } from "../lib/ids.ts";
import { formatPublicKey, parsePublicKey } from "../nix/signature.ts";
import { requireCache } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";

/** Each path that a cache does not have is asked for at all of them. */
const UPSTREAMS_MAX = 16;
const KEYS_MAX = 8;

/** What a new cache rests on: nixpkgs as its own project builds it. */
export const FIRST_UPSTREAM = {
  display_name: "cache.nixos.org",
  url: "https://cache.nixos.org",
  public_keys: ["cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="],
};

export async function listUpstreams(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  cacheName: string,
): Promise<UpstreamView[]> {
  const { cache } = await requireCache(deps, actor, cacheName, "read");
  return (await listUpstreamsOfCache(deps.db, cache.id)).map(viewUpstream);
}

/** Its id. */
export async function addUpstream(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "notifier">,
  actor: Actor,
  cacheName: string,
  body: AddUpstreamBody,
): Promise<string> {
  const { cache } = await requireUpstreamsOf(deps, actor, cacheName);
  if (body.type !== "http") {
    const advice = "add the other cache by its address, as type `http`";
    throw new DomainError("validation", `type: upstreams of type \`${body.type}\` are not supported yet: ${advice}`);
  }
  const upstream = {
    id: uuidV7(deps.clock.now(), deps.random),
    cache_id: cache.id,
    display_name: requireDisplayName(body.display_name, "display_name"),
    url: requireUpstreamUrl(body.url),
    public_keys: requirePublicKeys(body.public_key),
    mode: SubscriptionMode[body.mode],
  };
  if ((await listUpstreamsOfCache(deps.db, cache.id)).length >= UPSTREAMS_MAX) {
    throw new DomainError("bad_request", `A cache has at most ${UPSTREAMS_MAX} upstreams: remove one first`);
  }
  await insertUpstream(deps.db, upstream).catch(urlTaken);
  announce(deps, cache.id);
  return upstream.id;
}

/** With another address or other keys, nothing that was seen there before counts. */
export async function changeUpstream(
  deps: Pick<ServiceDeps, "db" | "notifier">,
  actor: Actor,
  { cacheName, id }: { readonly cacheName: string; readonly id: string },
  body: ChangeUpstreamBody,
): Promise<void> {
  const { cache } = await requireUpstreamsOf(deps, actor, cacheName);
  if (!isUuid(id)) throw unknownUpstream();
  const changes: UpstreamChanges = {};
  if (body.display_name !== undefined) changes.display_name = requireDisplayName(body.display_name, "display_name");
  if (body.mode !== undefined) changes.mode = SubscriptionMode[body.mode];
  if (body.url !== undefined) changes.url = requireUpstreamUrl(body.url);
  if (body.public_key !== undefined) changes.public_keys = requirePublicKeys(body.public_key);
  if (Object.keys(changes).length === 0) throw new DomainError("validation", "Nothing to change was given");
  await inTransaction(deps.db, async (trx) => {
    if (!(await updateUpstream(trx, { id, cacheId: cache.id }, changes))) throw unknownUpstream();
    if (changes.url !== undefined || changes.public_keys !== undefined) await forgetUpstreamPaths(trx, id);
  }).catch(urlTaken);
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

/** Without slashes at its end, so that one cache is not added twice. */
function requireUpstreamUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new DomainError("validation", "url: must begin with http:// or https://");
  }
  if (url.username !== "" || url.password !== "") {
    throw new DomainError("validation", "url: must not hold a name or password: everybody who reads the cache sees it");
  }
  if (url.search !== "" || url.hash !== "") throw new DomainError("validation", "url: must end with its path");
  return url.href.replace(/\/+$/, "");
}

function requirePublicKeys(text: string): string[] {
  const keys = text.split(/\s+/).filter((key) => key !== "");
  if (keys.length > KEYS_MAX) throw new DomainError("validation", `public_key: holds more than ${KEYS_MAX} keys`);
  const parsed = keys.map(parsePublicKey);
  if (keys.length === 0 || parsed.includes(null)) {
    throw new DomainError("validation", "public_key: must be of the form `name:base64`, as in trusted-public-keys");
  }
  return [...new Set(parsed.flatMap((key) => (key ? formatPublicKey(key) : [])))];
}

function viewUpstream({ id, display_name, mode, url, public_keys }: CacheUpstreamRow): UpstreamView {
  return {
    id,
    display_name,
    mode: subscriptionModeName(mode),
    upstream_cache_id: null,
    url,
    public_key: public_keys.join(" "),
    kind: "http",
    remote_cache: null,
  };
}

/** Servers that remember the upstreams of this cache look again. */
function announce({ notifier }: Pick<ServiceDeps, "notifier">, cacheId: string): void {
  notifier.notify("path", `${cacheId}/`);
}

function unknownUpstream(): DomainError {
  return new DomainError("not_found", "Upstream not found");
}

function urlTaken(error: unknown): never {
  if (uniqueViolation(error) !== "cache_upstream_url_key") throw error;
  throw new DomainError("already_exists", "url: the cache has this upstream already");
}
