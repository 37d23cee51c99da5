import type { StateCache } from "../api/state.ts";
import type { StateUpstream } from "../api/state-caches.ts";
import { findCacheCreator, setUpstreamReader } from "../db/state-caches.ts";
import { forgetUpstreamPaths } from "../db/upstream-paths.ts";
import {
  deleteUpstream,
  insertUpstream,
  type ListedUpstream,
  listUpstreamsOfCache,
  UpstreamKind,
  updateUpstream,
} from "../db/upstreams.ts";
import { SubscriptionMode } from "../domain/subscription.ts";
import { utf8 } from "../lib/bytes.ts";
import { differences, isEmpty, type StateContext } from "./state-context.ts";
import { holds } from "./state-sealed.ts";
import { secretNames } from "./state-secrets.ts";
import { apiKeyPlace } from "./upstream-directory.ts";
import { requirePublicKeys, requireUpstreamUrl } from "./upstream-rules.ts";

/** An upstream that stays what it is keeps its row, with all that was seen there. */
export async function reconcileUpstreams(context: StateContext, cache: StateCache, cacheId: string): Promise<void> {
  const { trx } = context;
  const rows = await listUpstreamsOfCache(trx, cacheId);
  const known = new Map(rows.map((row) => [identityOf(row), row]));
  let changed = false;
  for (const upstream of cache.upstreams) {
    const columns = await columnsOf(context, upstream);
    const row = known.get(identityOf(columns));
    known.delete(identityOf(columns));
    if (row) changed = (await changeUpstream(context, { cache, upstream, row }, columns)) || changed;
    else {
      const id = context.newId();
      const api_key = await sealedKey(context, { cache, upstream, id, sealed: null });
      await insertUpstream(trx, { id, cache_id: cacheId, ...columns, ...api_key });
      changed = true;
    }
  }
  for (const { id } of known.values()) changed = (await deleteUpstream(trx, { id, cacheId })) || changed;
  if (!changed) return;
  context.staleCaches.add(cacheId);
  context.note("changed", `upstreams of the cache ${cache.name}`);
}

type Columns = Awaited<ReturnType<typeof columnsOf>>;

/** Another cache of this server is read in the name of who made it: the file has said that it may be. */
async function columnsOf(context: StateContext, upstream: StateUpstream) {
  const mode: number = SubscriptionMode[upstream.mode];
  if (upstream.type === "internal") {
    const upstream_cache_id = context.cacheId(upstream.cache_name);
    return {
      kind: UpstreamKind.Internal as number,
      display_name: upstream.display_name ?? upstream.cache_name,
      mode,
      url: null,
      public_keys: [],
      remote_cache: null,
      upstream_cache_id,
      added_by: await findCacheCreator(context.trx, upstream_cache_id),
    };
  }
  const url = requireUpstreamUrl(upstream.url);
  const isGradient = upstream.type === "gradient_proto";
  return {
    kind: (isGradient ? UpstreamKind.Gradient : UpstreamKind.Http) as number,
    display_name: upstream.display_name ?? (isGradient ? upstream.remote_cache : new URL(url).host),
    mode,
    url,
    public_keys: requirePublicKeys(upstream.public_key),
    remote_cache: isGradient ? upstream.remote_cache : null,
    upstream_cache_id: null,
    added_by: null,
  };
}

async function changeUpstream(
  context: StateContext,
  {
    cache,
    upstream,
    row,
  }: { readonly cache: StateCache; readonly upstream: StateUpstream; readonly row: ListedUpstream },
  { display_name, mode, public_keys, added_by }: Columns,
): Promise<boolean> {
  const { trx } = context;
  const { id, cache_id: cacheId } = row;
  const key = await sealedKey(context, { cache, upstream, id, sealed: row.api_key });
  const changes = { ...differences(row, { display_name, mode, public_keys }), ...key };
  const readerChanged = row.kind === UpstreamKind.Internal && row.added_by === null && added_by !== null;
  if (readerChanged) await setUpstreamReader(trx, { id, userId: added_by });
  if (isEmpty(changes)) return readerChanged;
  await updateUpstream(trx, { id, cacheId }, changes);
  if (changes.public_keys) await forgetUpstreamPaths(trx, id);
  return true;
}

async function sealedKey(
  context: StateContext,
  {
    cache,
    upstream,
    id,
    sealed,
  }: {
    readonly cache: StateCache;
    readonly upstream: StateUpstream;
    readonly id: string;
    readonly sealed: Uint8Array | null;
  },
): Promise<{ readonly api_key?: Uint8Array | null }> {
  if (upstream.type !== "gradient_proto") return {};
  const text = context.secret(upstream.api_key_file, secretNames.upstream(cache.name, upstream));
  if (text === null) return upstream.has_api_key_file || sealed === null ? {} : { api_key: null };
  const place = apiKeyPlace(id);
  return (await holds(context, place, sealed, text))
    ? {}
    : { api_key: await context.deps.secrets.seal(place, utf8(text)) };
}

function identityOf(row: Pick<ListedUpstream, "kind" | "url" | "remote_cache" | "upstream_cache_id">): string {
  return JSON.stringify([row.kind, row.url, row.remote_cache, row.upstream_cache_id]);
}
