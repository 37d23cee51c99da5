/** The newest system that was built for a host. */
export interface WantedSystem {
  /** Base name. */
  readonly storePath: string;
  /** It can be had. */
  readonly available: boolean;
  readonly order: number;
  readonly commit: string;
  /** Milliseconds. */
  readonly builtAt: number;
}

/** What an evaluation asks for: the systems of all hosts that its flake names. */
export interface AskedSystems {
  /** No other host can come to be named. */
  readonly isWhole: boolean;
  /** When it was known which hosts there are, in milliseconds. */
  readonly knownAt: number;
  /** By the names of hosts. `failed`: it ended, and is not built. */
  readonly builds: ReadonlyMap<string, "built" | "open" | "failed">;
}

/** A host as it told of itself. */
export interface KnownHost {
  readonly name: string;
  readonly runningPath: string | null;
  /** Milliseconds; null where it is not healthy, or nobody knows. */
  readonly healthySince: number | null;
  readonly lastContactAt: number;
}

export interface Hold {
  /** Null: the commit is kept from all hosts. */
  readonly host: string | null;
  readonly storePath: string | null;
  readonly commit: string | null;
  /** Whose failure it comes from; null: somebody holds it. */
  readonly failedHost: string | null;
}

/** Everything by which is decided what each host of a project gets. */
export interface Fleet {
  readonly branch: string | null;
  /** By the names of hosts, also of those that never told of themselves. */
  readonly wanted: ReadonlyMap<string, WantedSystem>;
  /** By their order, those that systems are wanted of; none where all hosts may begin at once. */
  readonly evaluations: ReadonlyMap<number, AskedSystems>;
  readonly hosts: readonly KnownHost[];
  readonly holds: readonly Hold[];
  readonly settings: FleetSettings;
}

export interface FleetSettings {
  /** A failure on one host keeps the commit from the others. */
  readonly hold: boolean;
  /** From 1 to 100. */
  readonly wavePercent: number;
  readonly soakSeconds: number;
}
