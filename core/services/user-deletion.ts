import type { DeleteUserBody } from "../api/user.ts";
import { inTransaction } from "../db/transaction.ts";
import { deleteUser, lockCachesLedBy, lockOrganizationsLedBy } from "../db/user-deletion.ts";
import { findUserAccount, lockOtherSuperusers } from "../db/users.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireSignedIn } from "./sessions.ts";
import { requireOwnPassword } from "./user-settings.ts";

/** More names would hide what to do. */
const NAMES_SHOWN_MAX = 10;

/**
 * Deletes the actor's own account: its sessions, API keys, memberships, build requests and unfinished uploads. What it
 * made in organizations and caches stays, as nobody's. Throws `forbidden` unless the password (or the user name, of an
 * account without one) is right, `conflict` where somebody would be left without an Admin.
 */
export async function deleteOwnUser(
  deps: Pick<ServiceDeps, "db" | "passwords">,
  actor: Actor,
  body: DeleteUserBody,
): Promise<void> {
  const { id } = requireSignedIn(actor);
  const user = await findUserAccount(deps.db, id);
  if (!user) throw new DomainError("unauthorized", "This user account does not exist any more");
  if (user.managed) {
    throw new DomainError("forbidden", "This user is declared in the server's configuration: remove it there");
  }
  if (user.password_hash !== null) {
    if (body.password === undefined) throw new DomainError("forbidden", "password: must be yours, to show intent");
    await requireOwnPassword(deps, user, body.password);
  } else if (body.confirm_username !== user.username) {
    throw new DomainError("forbidden", "confirm_username: must be your user name, to show that you mean it");
  }
  await inTransaction(deps.db, async (trx) => {
    refuseToLeave("organizations", await lockOrganizationsLedBy(trx, id));
    refuseToLeave("caches", await lockCachesLedBy(trx, id));
    if (user.superuser && !(await lockOtherSuperusers(trx, id))) {
      throw new DomainError("conflict", "You are the only superuser of this server: declare another one first");
    }
    await recordAudit(trx, { ...auditAuthor(actor), event: "user.delete", metadata: { username: user.username } });
    await deleteUser(trx, id);
  });
}

function refuseToLeave(what: string, names: readonly string[]): void {
  if (names.length === 0) return;
  const more = names.length > NAMES_SHOWN_MAX ? ` and ${names.length - NAMES_SHOWN_MAX} more` : "";
  throw new DomainError(
    "conflict",
    `You are the only Admin of ${what}: ${names.slice(0, NAMES_SHOWN_MAX).join(", ")}${more}. ` +
      "Make somebody else an Admin, or delete them first",
  );
}
