import type { Transaction } from "kysely";
import type { StateDocument, StatePath, StateProblem } from "../api/state.ts";
import type { Database } from "../db/schema.ts";
import { equalBytes } from "../lib/bytes.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { ServiceDeps } from "./deps.ts";
import type { StateSecrets } from "./state-secrets.ts";
import { Wakeups } from "./transitions/wakeups.ts";

export type StateDeps = Pick<
  ServiceDeps,
  "db" | "clock" | "random" | "notifier" | "passwords" | "secrets" | "settings"
> & {
  readonly projects: {
    /** Of a project at most; 0 is no limit. */
    readonly keepEvaluations: number;
  };
};

export interface StateOptions {
  /** What is not declared any more is deleted; otherwise people may change it from then on. */
  readonly deleteUnlisted: boolean;
}

/** What was done to one thing. */
export interface StateChange {
  /** `taken over`: it was made by people, and is the file's from now on. `released`: the other way round. */
  readonly did: "created" | "changed" | "renamed" | "taken over" | "deleted" | "released";
  /** `user alice`. */
  readonly what: string;
}

/** One application of a state file, inside its transaction: what is known so far, and what to tell others after it. */
export class StateContext {
  readonly trx: Transaction<Database>;
  readonly deps: StateDeps;
  readonly document: StateDocument;
  readonly secrets: StateSecrets;
  readonly options: StateOptions;
  readonly changes: StateChange[] = [];
  /** What cannot be done as it stands; nothing is done then. */
  readonly problems: StateProblem[] = [];
  readonly warnings: string[] = [];
  readonly wakeups = new Wakeups();
  /** Caches whose answers other servers have in memory. */
  readonly staleCaches = new Set<string>();
  /** `organization id/worker id`. */
  readonly staleRegistrations = new Set<string>();
  /** Ids by what the file calls a thing; users in lower case. */
  readonly userIds = new Map<string, string>();
  readonly organizationIds = new Map<string, string>();
  readonly cacheIds = new Map<string, string>();

  constructor(
    trx: Transaction<Database>,
    deps: StateDeps,
    input: { readonly document: StateDocument; readonly secrets: StateSecrets; readonly options: StateOptions },
  ) {
    this.trx = trx;
    this.deps = deps;
    this.document = input.document;
    this.secrets = input.secrets;
    this.options = input.options;
  }

  newId(): string {
    return uuidV7(this.deps.clock.now(), this.deps.random);
  }

  note(did: StateChange["did"], what: string): void {
    this.changes.push({ did, what });
  }

  report(path: StatePath, message: string): void {
    this.problems.push({ path, message });
  }

  /** Null for a null name. Names that are not declared never come here: `checkState` refuses them. */
  userId(username: string | null): string | null {
    return username === null ? null : (this.userIds.get(username.toLowerCase()) ?? null);
  }

  organizationId(name: string): string {
    return found(this.organizationIds, name);
  }

  cacheId(name: string): string {
    return found(this.cacheIds, name);
  }

  /** The contents of a secret that the file names; null when it names none. */
  secret(file: string | null | undefined, credential: string): string | null {
    return file == null ? null : found(this.secrets, credential);
  }
}

/** Of the wanted columns, those that are not so already. */
export function differences<Wanted extends object>(
  row: { readonly [Column in keyof Wanted]: unknown },
  wanted: Wanted,
): Partial<Wanted> {
  const changes: Partial<Wanted> = {};
  for (const column of Object.keys(wanted) as (keyof Wanted)[]) {
    if (!isSame(row[column], wanted[column])) changes[column] = wanted[column];
  }
  return changes;
}

/** Of what people made and the file takes over without saying who its members are. */
export function warnOfMembers({ warnings }: StateContext, what: string): void {
  warnings.push(`the ${what} was made by people, whose roles in it they keep: declare its members to say who they are`);
}

export function isEmpty(changes: object): boolean {
  return Object.keys(changes).length === 0;
}

function isSame(a: unknown, b: unknown): boolean {
  if (a instanceof Uint8Array && b instanceof Uint8Array) return equalBytes(a, b);
  if (a instanceof Date && b instanceof Date) return a.getTime() === b.getTime();
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, i) => isSame(item, b[i]));
  return a === b;
}

function found<T>(known: ReadonlyMap<string, T>, name: string): T {
  const value = known.get(name);
  if (value === undefined) throw new Error(`the state file was not checked: it names ${name}, which is not in it`);
  return value;
}
