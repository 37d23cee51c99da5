import type { DeclaredName, StateDocument, StatePath, StateProblem } from "../api/state.ts";
import { unknownWord } from "../api/state-fields.ts";
import { DomainError } from "../errors.ts";

export interface StateRules {
  /** Repositories and inputs on the machine itself are allowed. */
  readonly allowLocalSources: boolean;
  /** Whether the server can send mail; null where that is not known. */
  readonly mailEnabled: boolean | null;
}

/** What the checks of all sections share: who is declared, and where problems are put down. */
export class StateChecks {
  readonly problems: StateProblem[] = [];
  readonly warnings: StateProblem[] = [];
  readonly document: StateDocument;
  readonly rules: StateRules;
  readonly users: ReadonlySet<string>;
  readonly organizations: ReadonlySet<string>;
  readonly caches: ReadonlySet<string>;
  readonly #roles: readonly DeclaredName[];
  readonly #integrations: readonly DeclaredName[];

  constructor(
    document: StateDocument,
    names: Readonly<Record<"users" | "organizations" | "caches" | "roles" | "integrations", readonly DeclaredName[]>>,
    rules: StateRules,
  ) {
    this.document = document;
    this.rules = rules;
    this.users = setOf(names.users);
    this.organizations = setOf(names.organizations);
    this.caches = setOf(names.caches);
    this.#roles = names.roles;
    this.#integrations = names.integrations;
  }

  report(path: StatePath, message: string): void {
    this.problems.push({ path, message });
  }

  warn(path: StatePath, message: string): void {
    this.warnings.push({ path, message });
  }

  /** Reports what `requirement` throws for somebody's mistake. */
  require(path: StatePath, requirement: () => unknown): void {
    try {
      requirement();
    } catch (error) {
      if (!(error instanceof DomainError)) throw error;
      // The path says already which field it is.
      this.report(path, error.message.replace(/^(?:[A-Za-z_.]+: |[A-Za-z_ ]*?\b(?=(?:must|is) ))/, ""));
    }
  }

  /** Reports the second and later ones of entries that are the same thing. */
  unique<T>(
    entries: readonly T[],
    identityOf: (entry: T) => string,
    describe: (entry: T) => { readonly path: StatePath; readonly message: string },
  ): void {
    const seen = new Set<string>();
    for (const entry of entries) {
      const identity = identityOf(entry);
      const { path, message } = describe(entry);
      if (seen.has(identity)) this.report(path, message);
      seen.add(identity);
    }
  }

  user(path: StatePath, username: string | null): void {
    if (username !== null) this.#known(path, { name: username, what: "user" }, this.users);
  }

  organization(path: StatePath, name: string): void {
    this.#known(path, { name, what: "organization" }, this.organizations);
  }

  cache(path: StatePath, name: string): void {
    this.#known(path, { name, what: "cache" }, this.caches);
  }

  /** Names of the roles that an organization declares for itself. */
  rolesOf(organization: string): string[] {
    return this.#roles.filter((role) => role.organization === organization).map(({ name }) => name);
  }

  integrationsOf(organization: string, kind: "inbound" | "outbound"): string[] {
    const own = this.#integrations.filter((one) => one.organization === organization && one.kind === kind);
    return own.map(({ name }) => name);
  }

  #known(
    path: StatePath,
    { name, what }: { readonly name: string; readonly what: string },
    known: ReadonlySet<string>,
  ): void {
    if (known.has(name)) return;
    this.report(path, `no ${what} ${name} is declared in this file${suggestion(name, [...known])}`);
  }
}

/** `; did you mean web?`, where a name is near. */
export function suggestion(name: string, known: readonly string[]): string {
  const words = unknownWord(name, known);
  return words.includes("did you mean") ? words.slice(words.indexOf(";")) : "";
}

function setOf(names: readonly DeclaredName[]): ReadonlySet<string> {
  return new Set(names.map(({ name }) => name));
}
