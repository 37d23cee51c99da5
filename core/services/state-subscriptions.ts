import type { StateCache } from "../api/state.ts";
import {
  deleteSubscriptionById,
  insertDeclaredSubscription,
  listSubscriptionsTo,
  updateDeclaredSubscription,
} from "../db/state-caches.ts";
import { SubscriptionMode } from "../domain/subscription.ts";
import type { StateContext } from "./state-context.ts";

/**
 * The declared organizations use the cache. Where one did so by itself, in another way, it goes on like that unless the
 * file says how. What the file put there goes with its line in the file; what people did stays.
 */
export async function reconcileSubscriptions(context: StateContext, cache: StateCache, cacheId: string): Promise<void> {
  const { trx, options } = context;
  const rows = await listSubscriptionsTo(trx, cacheId);
  const known = new Map(rows.map((row) => [row.organization_id, row]));
  const declared = new Set<string>();
  for (const entry of cache.organizations) {
    const name = typeof entry === "string" ? entry : entry.name;
    const organizationId = context.organizationId(name);
    declared.add(organizationId);
    const row = known.get(organizationId);
    const mode = modeOf(entry, row?.mode);
    if (row?.managed && row.mode === mode) continue;
    if (row) await updateDeclaredSubscription(trx, row.id, { mode, managed: true });
    else {
      const id = context.newId();
      await insertDeclaredSubscription(trx, { id, organization_id: organizationId, cache_id: cacheId, mode });
    }
    context.wakeups.work(organizationId);
    context.note(row ? "changed" : "created", `subscription of ${name} to the cache ${cache.name}`);
  }
  for (const { id, organization_id, organization_name, managed } of rows) {
    if (!managed || declared.has(organization_id)) continue;
    if (options.deleteUnlisted) await deleteSubscriptionById(trx, id);
    else await updateDeclaredSubscription(trx, id, { managed: false });
    context.wakeups.work(organization_id);
    const what = `subscription of ${organization_name} to the cache ${cache.name}`;
    context.note(options.deleteUnlisted ? "deleted" : "released", what);
  }
}

function modeOf(entry: StateCache["organizations"][number], present: number | undefined): number {
  if (typeof entry === "string") return present ?? SubscriptionMode.ReadWrite;
  return SubscriptionMode[entry.mode];
}
