import { type CacheView, ChangeCacheBody, CreateCacheBody } from "../caches.ts";
import { type CacheKeyView, ImportKeyBody, RetireKeyBody } from "../caches-keys.ts";
import { AddUpstreamBody, ChangeUpstreamBody, type UpstreamView } from "../caches-upstreams.ts";
import { NameQuery } from "../organizations.ts";
import { type Page, PageQuery } from "../pages.ts";
import { json, type RouteGroup } from "./route.ts";

const SWITCH = { audience: "user", permissions: ["manageCacheSettings"], answer: json<string>() } as const;

export const CACHES = {
  tag: "Caches",
  description: "Binary caches as they are administered. What Nix asks of them is answered below `/cache`.",
  routes: {
    "GET /caches": {
      summary: "List the caches that one may read",
      audience: "user",
      query: PageQuery,
      answer: json<Page<CacheView>>(),
    },
    "PUT /caches": {
      summary: "Create a cache",
      description: "The answer is its id. Who creates it becomes its Admin; cache.nixos.org is its first upstream.",
      audience: "user",
      body: CreateCacheBody,
      answer: json<string>(),
      errors: ["forbidden", "creation_disabled", "superuser_required", "invalid_name", "already_exists"],
    },
    "GET /caches/available": {
      summary: "Ask whether a name is free",
      audience: "user",
      query: NameQuery,
      answer: json<boolean>(),
    },
    "GET /caches/public": {
      summary: "List the public caches",
      audience: "everybody",
      answer: json<readonly CacheView[]>(),
    },
    "GET /caches/{cache}": { summary: "Show a cache", audience: "reader", answer: json<CacheView>() },
    "PATCH /caches/{cache}": {
      summary: "Change a cache",
      audience: "user",
      permissions: ["manageCacheSettings"],
      body: ChangeCacheBody,
      answer: json<string>(),
      errors: ["invalid_name", "already_exists"],
    },
    "DELETE /caches/{cache}": {
      summary: "Delete a cache with all its paths",
      audience: "user",
      permissions: ["deleteCache"],
      answer: json<string>(),
    },
    "POST /caches/{cache}/active": { summary: "Switch a cache on", ...SWITCH },
    "DELETE /caches/{cache}/active": { summary: "Switch a cache off", ...SWITCH },
    "POST /caches/{cache}/public": { summary: "Make a cache public", ...SWITCH },
    "DELETE /caches/{cache}/public": { summary: "Make a cache private", ...SWITCH },
    "GET /caches/{cache}/public-key": {
      summary: "Show the key that a cache's signatures are checked with",
      audience: "reader",
      answer: json<string>(),
    },
  },
} as const satisfies RouteGroup;

const MANAGE_KEYS = { audience: "user", permissions: ["manageCacheKeys"] } as const;

export const CACHE_KEYS = {
  tag: "Cache keys",
  description: "What a cache signs with.",
  routes: {
    "GET /caches/{cache}/key": { summary: "Export the secret key", ...MANAGE_KEYS, answer: json<string>() },
    "GET /caches/{cache}/keys": { summary: "List keys", audience: "reader", answer: json<readonly CacheKeyView[]>() },
    "POST /caches/{cache}/keys": {
      summary: "Import a secret key",
      ...MANAGE_KEYS,
      body: ImportKeyBody,
      answer: json<CacheKeyView>(),
      errors: ["already_exists", "conflict"],
    },
    "POST /caches/{cache}/keys/rotate": {
      summary: "Make a new key",
      ...MANAGE_KEYS,
      answer: json<CacheKeyView>(),
      errors: ["conflict"],
    },
    "POST /caches/{cache}/keys/{key}/retire": {
      summary: "Take a key's signatures out",
      ...MANAGE_KEYS,
      body: RetireKeyBody,
      answer: json<CacheKeyView>(),
      errors: ["conflict"],
    },
    "DELETE /caches/{cache}/keys/{key}": {
      summary: "Delete a retired key",
      ...MANAGE_KEYS,
      answer: json<string>(),
      errors: ["conflict"],
    },
  },
} as const satisfies RouteGroup;

const MANAGE_UPSTREAMS = { audience: "user", permissions: ["manageCacheUpstreams"] } as const;

export const CACHE_UPSTREAMS = {
  tag: "Upstreams",
  description: "Caches of others, whose paths need not be built.",
  routes: {
    "GET /caches/{cache}/upstreams": {
      summary: "List upstreams",
      audience: "reader",
      answer: json<readonly UpstreamView[]>(),
    },
    "PUT /caches/{cache}/upstreams": {
      summary: "Add an upstream",
      description: "The answer is its id.",
      ...MANAGE_UPSTREAMS,
      body: AddUpstreamBody,
      answer: json<string>(),
      errors: ["already_exists", "bad_request", "invalid_name"],
    },
    "PATCH /caches/{cache}/upstreams/{upstream}": {
      summary: "Change an upstream",
      ...MANAGE_UPSTREAMS,
      body: ChangeUpstreamBody,
      answer: json<string>(),
      errors: ["bad_request", "already_exists", "invalid_name"],
    },
    "DELETE /caches/{cache}/upstreams/{upstream}": {
      summary: "Remove an upstream",
      ...MANAGE_UPSTREAMS,
      answer: json<string>(),
    },
  },
} as const satisfies RouteGroup;
