import { parseStorePath, type StorePath } from "#core/nix/store-path.ts";
import type { EvaluationEnvironment } from "./environment.ts";
import { EvaluationError } from "./errors.ts";
import type { ReadablePlaces } from "./evaluator-setup.ts";
import { type FlakeSource, WRAPPED_INPUT } from "./expressions.ts";
import { type FlakeLock, type FlakeLockNode, readFlakeLock, rootInputs, withoutNotes } from "./flake-lock.ts";
import { LOCK_BYTES_MAX, refuseLocalInputs } from "./lock-file.ts";
import { askNix, runNixCommand } from "./nix-command.ts";
import { isPlainFolder, readPlainFile } from "./plain-file.ts";

/** A flake with all that its evaluation reads, in a store: whoever has these paths evaluates it without a network. */
export interface StoredSource extends FlakeSource {
  readonly paths: readonly StorePath[];
}

export interface StoreContext {
  readonly environment: EvaluationEnvironment;
  readonly readable: ReadablePlaces;
  readonly deadline: number;
  /** Told of inputs that cannot be had: an evaluation may do without. */
  readonly warn: (text: string) => void;
}

const INPUTS_MAX = 10_000;

/**
 * Brings a flake and its inputs into the store: all at once, or where one of them fails, one by one. Throws
 * `EvaluationError` when the flake itself cannot be had.
 */
export async function storeSource(flake: FlakeSource, context: StoreContext): Promise<StoredSource> {
  const { environment, readable, deadline } = context;
  const { flakeReference, isWrapped } = flake;
  const described = await describeFlake(flakeReference, context);
  // An input that the committed lock does not name has been locked just now, also one on this machine.
  if (!environment.allowLocalSources) {
    refuseLocalInputs(described.lock.text, (input) => isWrapped && input === WRAPPED_INPUT);
  }
  const archive = ["flake", "archive", "--json", flakeReference];
  const archived = await runNixCommand(environment, { args: archive, readable, deadline });
  const paths = new Set<StorePath>([described.path]);
  if (archived.ok) collectPaths(JSON.parse(archived.stdout), paths);
  else for await (const path of fetchInputs(described.lock, context)) paths.add(path);
  return {
    flakeReference: isWrapped ? flakeReference : described.storedReference,
    isWrapped,
    paths: [...paths].sort(),
  };
}

export interface DescribedFlake {
  readonly path: StorePath;
  readonly lock: FlakeLock;
  /**
   * Of the copy in the store, with what Nix knows of the commit from its repository: the evaluation sees the same
   * `self` as one that has the repository, so its derivations are the same.
   */
  readonly storedReference: string;
}

/** What Nix says of a flake; it is in the store then. `options` are further ones of the command. */
export async function describeFlake(
  flakeReference: string,
  { environment, readable, deadline }: Omit<StoreContext, "warn">,
  options: readonly string[] = [],
): Promise<DescribedFlake> {
  const args = ["flake", "metadata", "--json", flakeReference, ...options];
  const { path, locked, locks } = (await askNix(environment, { args, readable, deadline })) as Record<string, unknown>;
  const parsed = typeof path === "string" ? parseStorePath(path) : null;
  if (parsed === null || typeof locked !== "object" || locked === null) {
    throw new EvaluationError("evaluator_unusable", "nix does not say where the flake's source is");
  }
  const storedReference = referenceOf(parsed, locked as Readonly<Record<string, unknown>>);
  return { path: parsed, lock: readFlakeLock(locks), storedReference };
}

/** As Nix writes it: the order is that of the alphabet. */
function referenceOf(path: StorePath, locked: Readonly<Record<string, unknown>>): string {
  const known = ["lastModified", "narHash", "rev", "revCount"].flatMap((name) => {
    const value = locked[name];
    return typeof value === "string" || typeof value === "number" ? [`${name}=${encodeURIComponent(value)}`] : [];
  });
  return `path:${path}?${known.join("&")}`;
}

/** The references under which Nix reads a flake that is in the store, and the one that it wraps. */
export async function storedReferences(flake: FlakeSource, storeRoot: string): Promise<string[]> {
  const path = parseStorePath(/^path:([^?]*)/.exec(flake.flakeReference)?.[1] ?? "");
  if (path === null) return [];
  const references = [flake.flakeReference];
  if (flake.isWrapped) {
    const lock = await readWrapperLock(`${storeRoot}${path}`);
    const node = rootInputs(lock)[WRAPPED_INPUT];
    const locked = typeof node === "string" ? lock.nodes[node]?.locked : null;
    const wrapped = typeof locked?.path === "string" ? parseStorePath(locked.path) : null;
    if (locked && wrapped !== null) references.push(referenceOf(wrapped, locked));
  }
  // Versions of Nix differ in whether they encode the slash.
  return references.flatMap((reference) => [reference, reference.replaceAll("%2F", "/")]);
}

/** The wrapper may come from another machine, of people who would like to know what this one has. */
async function readWrapperLock(folder: string): Promise<FlakeLock> {
  try {
    if (!(await isPlainFolder(folder))) throw new Error("the flake is no folder");
    const bytes = await readPlainFile(`${folder}/flake.lock`, LOCK_BYTES_MAX);
    return readFlakeLock(JSON.parse(bytes.toString("utf8")));
  } catch (cause) {
    throw new EvaluationError("flake_broken", "the flake that was fetched with other inputs has no lock", { cause });
  }
}

function collectPaths(node: unknown, paths: Set<StorePath>): void {
  const stack = [node];
  for (let count = 0; stack.length > 0; count++) {
    if (count > INPUTS_MAX) throw new EvaluationError("flake_broken", `the flake has more than ${INPUTS_MAX} inputs`);
    const { path, inputs } = stack.pop() as { readonly path?: unknown; readonly inputs?: unknown };
    const parsed = typeof path === "string" ? parseStorePath(path) : null;
    if (parsed !== null) paths.add(parsed);
    if (typeof inputs === "object" && inputs !== null) stack.push(...Object.values(inputs));
  }
}

/** Each input by itself, those that fail left out. */
async function* fetchInputs({ root, nodes }: FlakeLock, context: StoreContext): AsyncGenerator<StorePath> {
  for (const [name, { locked }] of Object.entries(nodes)) {
    // Without a hash it is a folder inside of another input.
    if (name === root || typeof locked?.narHash !== "string") continue;
    const path = await fetchInput(name, locked, context);
    if (path !== null) yield path;
  }
}

async function fetchInput(
  name: string,
  locked: NonNullable<FlakeLockNode["locked"]>,
  { environment, readable, deadline, warn }: StoreContext,
): Promise<StorePath | null> {
  const literal = JSON.stringify(JSON.stringify(withoutNotes(locked))).replaceAll("$", "\\$");
  const expression = `(builtins.fetchTree (builtins.fromJSON ${literal})).outPath`;
  const args = ["eval", "--json", "--expr", expression];
  const answer = await runNixCommand(environment, { args, readable, deadline });
  const path = answer.ok ? parseStorePath(JSON.parse(answer.stdout) as string) : null;
  if (path === null) {
    const reason = answer.ok ? "nix gave no path" : answer.message;
    warn(`the input ${name} cannot be fetched; what needs it will not evaluate: ${reason}`);
  }
  return path;
}
