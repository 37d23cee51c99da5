import type { StateCache, StatePath } from "../api/state.ts";
import type { StateUpstream } from "../api/state-caches.ts";
import { requireAddressableSlug } from "../domain/names.ts";
import { CACHE_PERMISSIONS } from "../domain/permissions.ts";
import { checkMembers, checkPermissions, checkRoleName } from "./state-check-accounts.ts";
import type { StateChecks } from "./state-checks.ts";
import { requireApiKey, requirePublicKeys, requireRemoteCache, requireUpstreamUrl } from "./upstream-rules.ts";

export function checkCaches(checks: StateChecks): void {
  for (const cache of checks.document.caches) {
    const path = ["caches", cache.key];
    checks.require([...path, "name"], () => requireAddressableSlug(cache.name, "name"));
    checks.user([...path, "created_by"], cache.created_by);
    checkSubscribers(checks, path, cache);
    checkRoles(checks, path, cache);
    checkUpstreams(checks, path, cache);
  }
  checks.unique(
    checks.document.caches,
    ({ name }) => name,
    ({ key, name }) => ({ path: ["caches", key], message: `the cache ${name} is declared twice in this file` }),
  );
}

/** An entry is the name of an organization, or that and how it uses the cache. */
function subscriberName(entry: StateCache["organizations"][number]): string {
  return typeof entry === "string" ? entry : entry.name;
}

/** What no two upstreams of a cache may have in common. */
function upstreamIdentity(upstream: StateUpstream): string {
  switch (upstream.type) {
    case "internal":
      return JSON.stringify(["internal", upstream.cache_name]);
    case "external":
      return JSON.stringify(["external", trimmed(upstream.url)]);
    case "gradient_proto":
      return JSON.stringify(["gradient_proto", trimmed(upstream.url), upstream.remote_cache]);
  }
}

function checkSubscribers(checks: StateChecks, path: StatePath, cache: StateCache): void {
  const names = cache.organizations.map(subscriberName);
  names.forEach((name, index) => {
    checks.organization([...path, "organizations", index], name);
  });
  checks.unique(
    names.map((name, index) => ({ name, index })),
    ({ name }) => name,
    ({ name, index }) => ({ path: [...path, "organizations", index], message: `${name} is named twice` }),
  );
}

function checkRoles(checks: StateChecks, path: StatePath, { roles, members }: StateCache): void {
  roles.forEach(({ name, permissions }, index) => {
    const at = [...path, "roles", index];
    checkRoleName(checks, [...at, "name"], name);
    checkPermissions(checks, at, permissions, CACHE_PERMISSIONS);
  });
  checks.unique(
    roles.map(({ name }, index) => ({ name, index })),
    ({ name }) => name,
    ({ name, index }) => ({ path: [...path, "roles", index, "name"], message: `${name} is used twice` }),
  );
  const own = roles.map(({ name }) => name);
  checkMembers(checks, path, members, own);
}

function checkUpstreams(checks: StateChecks, path: StatePath, cache: StateCache): void {
  for (const [index, upstream] of cache.upstreams.entries()) {
    const at = [...path, "upstreams", index];
    if (upstream.type === "internal") {
      checkInternal(checks, at, cache, upstream.cache_name);
      continue;
    }
    checks.require([...at, "url"], () => requireUpstreamUrl(upstream.url));
    checks.require([...at, "public_key"], () => requirePublicKeys(upstream.public_key));
    if (upstream.type === "external") continue;
    checks.require([...at, "remote_cache"], () => requireRemoteCache(upstream.remote_cache));
    if (upstream.api_key_file != null)
      checks.require([...at, "api_key_file"], () => requireApiKey("key", upstream.url));
  }
  checks.unique(
    cache.upstreams.map((upstream, index) => ({ upstream, index })),
    ({ upstream }) => upstreamIdentity(upstream),
    ({ index }) => ({ path: [...path, "upstreams", index], message: "is the same as one before it" }),
  );
}

function checkInternal(checks: StateChecks, path: StatePath, cache: StateCache, name: string): void {
  const at = [...path, "cache_name"];
  checks.cache(at, name);
  if (name === cache.name) checks.report(at, "is this cache itself");
  const source = checks.document.caches.find((other) => other.name === name);
  if (source && cache.public && !source.public) {
    checks.report(at, `${name} is private, and everybody would read it through ${cache.name}`);
  }
}

function trimmed(url: string): string {
  return URL.canParse(url) ? new URL(url).href.replace(/\/+$/, "") : url;
}
