import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { PostgresError } from "./error.ts";

const PROBE_TIMEOUT_MS = 5_000;

/**
 * Who PostgreSQL runs as. It refuses to run as root and as a user without an entry in /etc/passwd.
 *
 * - `self`: as we do.
 * - `namespace`: as we do, but in a user namespace that shows our own user id as another one. Files keep their owner
 *   and stay reachable below folders that only we may enter.
 * - `user`: as another user. Data and binaries must lie where that user can reach them.
 */
export type Account =
  | { readonly kind: "self" }
  | { readonly kind: "namespace"; readonly uid: number }
  | { readonly kind: "user"; readonly name: string; readonly uid: number; readonly gid: number };

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  /** For `spawn`. */
  readonly user: { readonly uid?: number; readonly gid?: number };
}

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** The least intrusive account that works on this machine. */
export function chooseAccount(): Account {
  const entries = passwdEntries();
  const uid = process.getuid?.() ?? -1;
  if (uid !== 0 && entries.some((entry) => entry.uid === uid)) return { kind: "self" };

  const other = otherUser(entries);
  const namespace: Account = { kind: "namespace", uid: other.uid };
  if (works(namespace)) return namespace;
  if (uid === 0) return { kind: "user", ...other };
  throw new PostgresError(
    `PostgreSQL cannot run here: user id ${uid} has no entry in /etc/passwd and user namespaces are not allowed. ` +
      "Add an entry, or set GRADIENT_DATABASE_URL to a PostgreSQL server",
  );
}

/** The account of another user, for root. Throws where there is none. */
export function otherUserAccount(): Account & { readonly kind: "user" } {
  return { kind: "user", ...otherUser(passwdEntries()) };
}

/** The command that runs `file` under the account and, where setpriv exists, gets `deathSignal` when we die. */
export function commandFor(account: Account, file: string, args: readonly string[], deathSignal?: "INT"): Command {
  const words: string[] = [];
  if (account.kind === "namespace") words.push(...enterNamespace(account.uid));
  if (deathSignal && hasDeathSignal(account)) words.push("setpriv", "--pdeathsig", deathSignal, "--");
  words.push(file, ...args);
  const [first, ...rest] = words as [string, ...string[]];
  return { file: first, args: rest, user: account.kind === "user" ? { uid: account.uid, gid: account.gid } : {} };
}

/** Whether `file` can be run under the account (a folder above it may be closed to that user). */
export function works(account: Account, file = "true", args: readonly string[] = [], env?: NodeJS.ProcessEnv): boolean {
  const command = commandFor(account, file, args);
  const options = { ...command.user, cwd: "/", stdio: "ignore", timeout: PROBE_TIMEOUT_MS } as const;
  return spawnSync(command.file, command.args, { ...options, ...(env && { env }) }).status === 0;
}

const deathSignalKnown = new Map<Account["kind"], boolean>();

/** Whether the account can run setpriv: it may be missing, or lie where another user cannot reach it. */
function hasDeathSignal(account: Account): boolean {
  const known = deathSignalKnown.get(account.kind);
  if (known !== undefined) return known;
  const found = works(account, "setpriv", ["--pdeathsig", "INT", "--", "true"]);
  deathSignalKnown.set(account.kind, found);
  return found;
}

function enterNamespace(uid: number): string[] {
  return ["unshare", "--user", `--map-user=${uid}`, `--map-group=${uid}`, "--"];
}

function otherUser(entries: readonly PasswdEntry[]): PasswdEntry {
  const candidates = entries.filter((entry) => entry.uid !== 0);
  const named = (name: string): PasswdEntry | undefined => candidates.find((entry) => entry.name === name);
  const chosen = named("postgres") ?? named("nobody") ?? candidates[0];
  if (chosen) return chosen;
  throw new PostgresError(
    "PostgreSQL refuses to run as root and /etc/passwd has no other user for it. Add the user nobody, " +
      "run the server as another user, or set GRADIENT_DATABASE_URL",
  );
}

function passwdEntries(): PasswdEntry[] {
  const entries: PasswdEntry[] = [];
  for (const line of readFileSync("/etc/passwd", "utf8").split("\n")) {
    const [name, , uid, gid] = line.split(":");
    if (name && uid && gid && /^\d+$/.test(uid) && /^\d+$/.test(gid)) {
      entries.push({ name, uid: Number(uid), gid: Number(gid) });
    }
  }
  return entries;
}
