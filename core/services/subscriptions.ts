import type { Transaction } from "kysely";
import type { SubscribeBody, SubscriptionView } from "../api/organizations.ts";
import type { Database } from "../db/schema.ts";
import { deleteSubscription, insertSubscription, listSubscriptions } from "../db/subscriptions.ts";
import { inTransaction } from "../db/transaction.ts";
import type { Actor } from "../domain/actor.ts";
import type { AuditEvent } from "../domain/audit-events.ts";
import { SubscriptionMode, subscriptionModeName } from "../domain/subscription.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { requireCache, requireOrganization } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { refuseVanished } from "./vanished.ts";

const MODE: Readonly<Record<SubscribeBody["mode"], SubscriptionMode>> = {
  ReadWrite: SubscriptionMode.ReadWrite,
  read_write: SubscriptionMode.ReadWrite,
  ReadOnly: SubscriptionMode.ReadOnly,
  read_only: SubscriptionMode.ReadOnly,
  WriteOnly: SubscriptionMode.WriteOnly,
  write_only: SubscriptionMode.WriteOnly,
};

interface Subscription {
  readonly organization: string;
  readonly cache: string;
}

export async function listSubscribedCaches(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
): Promise<SubscriptionView[]> {
  const { organization } = await requireOrganization(deps, actor, name, "member");
  const rows = await listSubscriptions(deps.db, organization.id);
  return rows.map(({ id, name, mode }) => ({ id, name, mode: subscriptionModeName(mode) }));
}

/** Evaluations that wait for a cache to write to are looked at again. */
export async function subscribe(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "notifier">,
  actor: Actor,
  names: Subscription,
  { mode }: SubscribeBody,
): Promise<void> {
  const { organizationId, cacheId } = await requireBoth(deps, actor, names);
  const id = uuidV7(deps.clock.now(), deps.random);
  const row = { id, organization_id: organizationId, cache_id: cacheId, mode: MODE[mode] };
  await inTransaction(deps.db, async (trx) => {
    if (!(await insertSubscription(trx, row))) {
      throw new DomainError("already_exists", "The organization is subscribed to this cache already");
    }
    await record(trx, actor, "organization.subscription.create", { organizationId, cacheId, names, mode });
  }).catch(refuseVanished);
  deps.notifier.notify("work", organizationId);
}

export async function unsubscribe(
  deps: Pick<ServiceDeps, "db" | "notifier">,
  actor: Actor,
  names: Subscription,
): Promise<void> {
  const { organizationId, cacheId } = await requireBoth(deps, actor, names);
  await inTransaction(deps.db, async (trx) => {
    if (!(await deleteSubscription(trx, organizationId, cacheId))) {
      throw new DomainError("bad_request", "The organization is not subscribed to this cache");
    }
    await record(trx, actor, "organization.subscription.delete", { organizationId, cacheId, names });
  });
  deps.notifier.notify("work", organizationId);
}

/** A subscription opens the cache to the organization's members, so both sides must agree to it. */
async function requireBoth(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  names: Subscription,
): Promise<{ readonly organizationId: string; readonly cacheId: string }> {
  const { organization } = await requireOrganization(deps, actor, names.organization, "manageSubscriptions");
  const { cache } = await requireCache(deps, actor, names.cache, "manageCacheSubscriptions");
  return { organizationId: organization.id, cacheId: cache.id };
}

async function record(
  trx: Transaction<Database>,
  actor: Actor,
  event: AuditEvent,
  about: { organizationId: string; cacheId: string; names: Subscription; mode?: string },
): Promise<void> {
  const { organizationId, cacheId, names, mode } = about;
  const metadata = { ...names, ...(mode && { mode }) };
  await recordAudit(trx, { ...auditAuthor(actor), event, organizationId, cacheId, metadata });
}
