import type { Kysely } from "kysely";
import {
  buryOrganization,
  deleteBuriedPart,
  deleteOrganization as deleteOrganizationRow,
  isLarge,
  listBuriedOrganizations,
} from "../db/organization-deletion.ts";
import { lockRealm, ORGANIZATION_TABLES } from "../db/realms.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction, withRetries } from "../db/transaction.ts";
import { listRegisteredWorkerIds } from "../db/worker-registrations.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { requireOrganization } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";

/** Builds and links that are deleted while the client waits: some seconds. */
const AT_ONCE_MAX = 5_000;
/** Rows of one statement, each with what hangs on it. */
const CHUNK = 1_000;
const BURIED_MAX = 100;

/**
 * With its projects, evaluations and builds: from now on nobody sees anything of it, and its name is free. The rows of
 * a large one go in the background. Its workers learn that they work for it no more.
 */
export async function deleteOrganization(
  { db, notifier }: Pick<ServiceDeps, "db" | "notifier">,
  actor: Actor,
  name: string,
): Promise<void> {
  const { organization } = await requireOrganization({ db }, actor, name, "deleteOrg", { unmanaged: true });
  const { id } = organization;
  const workerIds = await inTransaction(db, async (trx) => {
    await lockRealm(trx, { tables: ORGANIZATION_TABLES, id });
    // Another one was quicker, or the name is that of another organization by now.
    const present = await requireOrganization({ db: trx }, actor, name, "deleteOrg", { unmanaged: true });
    if (present.organization.id !== id) throw new DomainError("not_found", "Organization not found");
    const workers = await listRegisteredWorkerIds(trx, id);
    if (await isLarge(trx, id, AT_ONCE_MAX)) await buryOrganization(trx, id);
    else await deleteOrganizationRow(trx, id);
    const metadata = { organization: organization.name, organization_id: id };
    await recordAudit(trx, { ...auditAuthor(actor), event: "organization.delete", metadata });
    return workers;
  });
  for (const workerId of workerIds) notifier.notify("registration", `${id}/${workerId}`);
  notifier.notify("work", id);
}

/** Deletes what is left of large organizations, a part at a time, so that it holds up nobody. */
export async function deleteBuriedOrganizations(db: Kysely<Database>, signal: AbortSignal): Promise<void> {
  for (const id of await listBuriedOrganizations(db, BURIED_MAX)) {
    while (!signal.aborted && (await withRetries(() => deleteBuriedPart(db, id, CHUNK))));
  }
}
