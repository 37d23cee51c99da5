import type { StateUser } from "../api/state.ts";
import { deleteDevicesOf } from "../db/device-logins.ts";
import {
  deleteManaged,
  insertManaged,
  lockStateUsers,
  releaseManaged,
  revokeSessionsOf,
  updateManaged,
} from "../db/state-rows.ts";
import { differences, isEmpty, type StateContext } from "./state-context.ts";
import { secretNames } from "./state-secrets.ts";

type UserRow = Awaited<ReturnType<typeof lockStateUsers>>[number];

/** Makes the declared users. Those that left the file are looked at by `removeUsers`, when nothing needs them. */
export async function reconcileUsers(context: StateContext): Promise<void> {
  const { trx, document, options } = context;
  const rows = await lockStateUsers(trx, {
    usernames: document.users.map(({ username }) => username.toLowerCase()),
    emails: document.users.map(({ email }) => email.toLowerCase()).filter((email) => email !== ""),
  });
  const byName = new Map(rows.map((row) => [row.username.toLowerCase(), row]));
  const byEmail = new Map(rows.filter(({ email }) => email !== "").map((row) => [row.email.toLowerCase(), row]));
  const declared = new Set(document.users.map(({ username }) => username.toLowerCase()));
  const isLeaving = (row: UserRow) => row.managed && !declared.has(row.username.toLowerCase());

  const matched = new Map<StateUser, UserRow>();
  for (const user of document.users) {
    const holder = byEmail.get(user.email.toLowerCase());
    // One that leaves the file while another with its address comes is the same person by another name.
    const row = byName.get(user.username.toLowerCase()) ?? (holder && isLeaving(holder) ? holder : undefined);
    if (row) matched.set(user, row);
    if (row && isSomebodyElse(row, user)) {
      const words = `is not that of the account ${row.username}, which people made: declare it with ${row.email} first`;
      context.report(["users", user.key, "email"], words);
    }
    const goesAway = holder && isLeaving(holder) && options.deleteUnlisted;
    if (holder && holder !== row && !declared.has(holder.username.toLowerCase()) && !goesAway) {
      const words = `belongs to the account ${holder.username}: declare that one, or give ${user.username} another`;
      context.report(["users", user.key, "email"], words);
    }
  }
  if (context.problems.length > 0) return;
  await setAddressesFree(context, matched, byEmail);
  for (const user of document.users) await putUser(context, user, matched.get(user));
}

/** Users who left the file, after everything that they made was declared anew. */
export async function removeUsers(context: StateContext): Promise<void> {
  const { trx, options, document } = context;
  const declared = new Set(document.users.map(({ username }) => username.toLowerCase()));
  const rows = await lockStateUsers(trx, { usernames: [], emails: [] });
  const leaving = rows.filter((row) => row.managed && !declared.has(row.username.toLowerCase()));
  const ids = leaving.map(({ id }) => id);
  if (options.deleteUnlisted) await deleteManaged(trx, "user_account", ids);
  else await releaseManaged(trx, "user_account", ids);
  for (const { username } of leaving) {
    context.note(options.deleteUnlisted ? "deleted" : "released", `user ${username}`);
  }
}

/** Whoever registered the name before may be anybody: with the same address it is taken to be the one who is meant. */
function isSomebodyElse(row: UserRow, { email }: StateUser): boolean {
  return !row.managed && row.email !== "" && row.email.toLowerCase() !== email.toLowerCase();
}

async function putUser(context: StateContext, user: StateUser, row: UserRow | undefined): Promise<void> {
  const { trx } = context;
  const { username, name, email, email_verified, superuser } = user;
  const hash = context.secret(user.password_file, secretNames.password(username));
  const wanted = { username, name, email, email_verified, superuser };
  if (!row) {
    const id = context.newId();
    await insertManaged(trx, "user_account", { id, ...wanted, password_hash: hash });
    context.userIds.set(username.toLowerCase(), id);
    return context.note("created", `user ${username}`);
  }
  context.userIds.set(username.toLowerCase(), row.id);
  const password = hash === null && user.has_password_file ? {} : { password_hash: hash };
  const changes = differences(row, { ...wanted, ...password, managed: true });
  if (isEmpty(changes)) return;
  await updateManaged(trx, "user_account", row.id, changes);
  if ("password_hash" in changes || !row.managed) {
    await revokeSessionsOf(trx, row.id);
    await deleteDevicesOf(trx, row.id);
  }
  if (!row.managed) return context.note("taken over", `user ${username}`);
  const renamed = row.username.toLowerCase() !== username.toLowerCase();
  context.note(renamed ? "renamed" : "changed", `user ${renamed ? `${row.username}, now ${username}` : username}`);
}

/** Two users who exchange their addresses would each find the other's still taken. */
async function setAddressesFree(
  context: StateContext,
  matched: ReadonlyMap<StateUser, UserRow>,
  byEmail: ReadonlyMap<string, UserRow>,
): Promise<void> {
  for (const user of context.document.users) {
    const holder = byEmail.get(user.email.toLowerCase());
    if (!holder || holder === matched.get(user)) continue;
    const email = `${holder.id}@moving.invalid`;
    await updateManaged(context.trx, "user_account", holder.id, { email });
    holder.email = email;
  }
}
