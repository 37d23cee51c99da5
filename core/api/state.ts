import * as v from "valibot";
import {
  apiKeyEntry,
  integrationEntry,
  organizationEntry,
  roleEntry,
  userEntry,
  workerEntry,
} from "./state-accounts.ts";
import { cacheEntry } from "./state-caches.ts";
import { NOT_A_SET, unknownWord } from "./state-fields.ts";
import { mendEntry } from "./state-mending.ts";
import { projectEntry, wildcardOf } from "./state-projects.ts";

/** Where in the file something is wrong. */
export type StatePath = readonly (string | number)[];

export interface StateProblem {
  readonly path: StatePath;
  /** Goes on after the path: "is missing". */
  readonly message: string;
}

/** Of every kind of thing, as the file has them; the order is the one in which they are made. */
const SECTIONS = {
  users: userEntry,
  organizations: organizationEntry,
  roles: roleEntry,
  integrations: integrationEntry,
  projects: projectEntry,
  caches: cacheEntry,
  api_keys: apiKeyEntry,
  workers: workerEntry,
} as const;
export type StateSection = keyof typeof SECTIONS;
export const STATE_SECTIONS = Object.keys(SECTIONS) as StateSection[];

type Entry<Section extends StateSection> = v.InferOutput<(typeof SECTIONS)[Section]> & {
  /** The attribute under which it stands. Where it says no name, this is its name. */
  readonly key: string;
};
/** An entry with its name, and what is shown for it. */
type Named<Section extends StateSection> = Omit<Entry<Section>, "name" | "display_name"> & {
  readonly name: string;
  readonly display_name: string;
};

export type StateUser = Omit<Entry<"users">, "username" | "name"> & {
  readonly username: string;
  readonly name: string;
};
export type StateOrganization = Named<"organizations">;
export type StateRole = Omit<Entry<"roles">, "name"> & { readonly name: string };
export type StateIntegration = Named<"integrations">;
export type StateProject = Omit<Named<"projects">, "wildcard" | "evaluation_wildcard"> & { readonly wildcard: string };
export type StateCache = Named<"caches">;
export type StateApiKey = Omit<Entry<"api_keys">, "name"> & { readonly name: string };
export type StateWorker = Omit<Entry<"workers">, "display_name"> & { readonly display_name: string };

/** What is to be on this server. Every default is filled in. */
export interface StateDocument {
  readonly users: readonly StateUser[];
  readonly organizations: readonly StateOrganization[];
  readonly roles: readonly StateRole[];
  readonly integrations: readonly StateIntegration[];
  readonly projects: readonly StateProject[];
  readonly caches: readonly StateCache[];
  readonly api_keys: readonly StateApiKey[];
  readonly workers: readonly StateWorker[];
}

/**
 * Entries that are wrong are in `document` with something else in place of their wrong fields, or not at all; their
 * names are in `names`, so that nobody misses them.
 */
export interface StateReading {
  readonly document: StateDocument;
  /** Fields of `document` that are not the file's: nothing is to be said of them. */
  readonly mended: readonly StatePath[];
  readonly names: Readonly<Record<StateSection, readonly DeclaredName[]>>;
  readonly problems: readonly StateProblem[];
}

export interface DeclaredName {
  readonly key: string;
  readonly name: string;
  readonly organization: string | null;
  readonly kind: string | null;
}

/** Reads the shape of a whole file; what its words mean is looked at by `checkState`. */
export function readState(json: unknown): StateReading {
  const problems: StateProblem[] = [];
  const mended: StatePath[] = [];
  const top = isSet(json) ? json : {};
  if (!isSet(json)) problems.push({ path: [], message: NOT_A_SET });
  for (const key of Object.keys(top)) {
    if (!(STATE_SECTIONS as string[]).includes(key)) {
      problems.push({ path: [key], message: unknownWord(key, STATE_SECTIONS) });
    }
  }
  const names = {} as Record<StateSection, DeclaredName[]>;
  const read = <Section extends StateSection>(section: Section): Entry<Section>[] => {
    const entries = entriesOf(top[section], section, problems);
    names[section] = entries.map(([key, value]) => declaredName(section, key, value));
    return entries.flatMap(([key, value]) => {
      const result = v.safeParse(SECTIONS[section], value);
      if (result.success) return [{ ...result.output, key } as Entry<Section>];
      problems.push(...result.issues.map((issue) => problemOf([section, key], issue)));
      const other = mendEntry(SECTIONS[section], value);
      mended.push(...(other?.fields ?? []).map((field) => [section, key, field]));
      return other ? [{ ...(other.entry as object), key } as Entry<Section>] : [];
    });
  };
  const document: StateDocument = {
    users: read("users").map((entry) => {
      const username = entry.username ?? entry.key;
      return { ...entry, username, name: entry.name ?? username };
    }),
    organizations: read("organizations").map(named),
    roles: read("roles").map((entry) => ({ ...entry, name: entry.name ?? entry.key })),
    integrations: read("integrations").map(named),
    projects: read("projects").map((entry) => ({ ...named(entry), wildcard: wildcardOf(entry) })),
    caches: read("caches").map(named),
    api_keys: read("api_keys").map((entry) => ({ ...entry, name: entry.name ?? entry.key })),
    workers: read("workers").map((entry) => ({ ...entry, display_name: entry.display_name ?? entry.key })),
  };
  return { document, mended, names, problems };
}

/** `projects.web.triggers[0].config: is missing`, with quotes where Nix would want them. */
export function describeProblem({ path, message }: StateProblem): string {
  return path.length === 0 ? `the file ${message}` : `${describePath(path)}: ${message}`;
}

function describePath(path: StatePath): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === "number") return `${text}[${part}]`;
    const name = /^[A-Za-z_][A-Za-z0-9_'-]*$/.test(part) ? part : JSON.stringify(part);
    return text === "" ? name : `${text}.${name}`;
  }, "");
}

function named<
  T extends {
    readonly key: string;
    readonly name?: string | null | undefined;
    readonly display_name?: string | null | undefined;
  },
>(entry: T): Omit<T, "name" | "display_name"> & { readonly name: string; readonly display_name: string } {
  const name = entry.name ?? entry.key;
  return { ...entry, name, display_name: entry.display_name ?? name };
}

function entriesOf(value: unknown, section: StateSection, problems: StateProblem[]): [string, unknown][] {
  if (value === undefined || value === null) return [];
  if (isSet(value)) return Object.entries(value);
  problems.push({ path: [section], message: NOT_A_SET });
  return [];
}

function declaredName(section: StateSection, key: string, value: unknown): DeclaredName {
  const text = (field: string): string | null => {
    const content = isSet(value) ? value[field] : undefined;
    return typeof content === "string" ? content : null;
  };
  const identity = section === "users" ? "username" : section === "workers" ? "worker_id" : "name";
  return { key, name: text(identity) ?? key, organization: text("organization"), kind: text("kind") };
}

function isSet(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function problemOf(entry: StatePath, issue: v.BaseIssue<unknown>): StateProblem {
  const path = (issue.path ?? []).map(({ key }) => (typeof key === "number" ? key : String(key)));
  return { path: [...entry, ...path], message: issue.message };
}
