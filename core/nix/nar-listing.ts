import { byteStringText } from "./byte-string.ts";
import type { NarEvent } from "./nar.ts";

/** A file, folder or link of a listing. Names are text: what of them is not UTF-8 has become U+FFFD. */
export type ListedEntry =
  | { readonly kind: "directory"; readonly name: string }
  /** `offset`: where in the NAR the content starts. */
  | {
      readonly kind: "file";
      readonly name: string;
      readonly executable: boolean;
      readonly size: number;
      readonly offset: number;
    }
  | { readonly kind: "symlink"; readonly name: string; readonly target: string };

/** Entries come before what they hold, as in the NAR. */
export type ListingEvent = ListedEntry | { readonly kind: "directoryEnd" };

/** The text is not what `NarListingPrinter` writes. */
export class NarListingParseError extends Error {
  override readonly name = "NarListingParseError";
}

const HEAD = '{"version":1,"root":';
const FOLDER = '{"type":"directory","entries":{';
const TOKEN =
  /\{"type":"directory","entries":\{|\{"type":"regular","size":([0-9]+)(,"executable":true)?,"narOffset":([0-9]+)\}|\{"type":"symlink","target":("(?:[^"\\]|\\.)*")\}|("(?:[^"\\]|\\.)*"):|\}\}|,/y;
/** The longest token: a link's target of 4095 bytes, each of them escaped with six characters. */
const TOKEN_LENGTH_MAX = 32_768;

/**
 * Writes the listing of a NAR as `nix copy` does with `write-nar-listing` and as cache.nixos.org has it: one JSON
 * object without white space, the keys of an entry always in the same order.
 */
export class NarListingPrinter {
  /** For each open folder, whether it has an entry already. */
  readonly #open: boolean[] = [];
  #started = false;

  /** The text that the event adds. The walk has to be a whole tree, as `readNar` gives it. */
  print(event: NarEvent): string {
    if (event.kind === "content") return "";
    if (event.kind === "directoryEnd") {
      this.#open.pop();
      return `}}${this.#end()}`;
    }
    const start = this.#start(event.name);
    if (event.kind === "directory") {
      this.#open.push(false);
      return `${start}${FOLDER}`;
    }
    if (event.kind === "symlink") {
      return `${start}{"type":"symlink","target":${quoted(event.target)}}${this.#end()}`;
    }
    const executable = event.executable ? ',"executable":true' : "";
    return `${start}{"type":"regular","size":${event.size}${executable},"narOffset":${event.offset}}${this.#end()}`;
  }

  #start(name: string): string {
    if (!this.#started) {
      this.#started = true;
      return HEAD;
    }
    const comma = this.#open.at(-1) ? "," : "";
    this.#open[this.#open.length - 1] = true;
    return `${comma}${quoted(name)}:`;
  }

  #end(): string {
    return this.#open.length === 0 ? "}" : "";
  }
}

/** Reads what `NarListingPrinter` has written, in any cut. Memory is bounded. Throws `NarListingParseError`. */
export async function* readNarListing(text: AsyncIterable<string>): AsyncGenerator<ListingEvent> {
  let rest = "";
  let started = false;
  let depth = 0;
  let name = "";
  for await (const part of text) {
    rest += part;
    if (!started) {
      if (rest.length < HEAD.length) continue;
      if (!rest.startsWith(HEAD)) throw new NarListingParseError("a listing does not begin as ours do");
      rest = rest.slice(HEAD.length);
      started = true;
    }
    TOKEN.lastIndex = 0;
    let read = 0;
    const events: ListingEvent[] = [];
    for (let match = TOKEN.exec(rest); match; match = TOKEN.exec(rest)) {
      read = TOKEN.lastIndex;
      if (match[0] === FOLDER) depth++;
      else if (match[0] === "}}" && --depth < 0) break;
      const [token, size, executable, offset, target, key] = match;
      if (key !== undefined) name = parsed(key);
      else if (token === "}}") events.push({ kind: "directoryEnd" });
      else if (token === FOLDER) events.push({ kind: "directory", name });
      else if (target !== undefined) events.push({ kind: "symlink", name, target: parsed(target) });
      else if (size !== undefined) {
        const file = { executable: executable !== undefined, size: Number(size), offset: Number(offset) };
        events.push({ kind: "file", name, ...file });
      }
    }
    rest = rest.slice(read);
    if (rest.length > TOKEN_LENGTH_MAX) throw new NarListingParseError("a listing holds what ours do not");
    yield* events;
  }
  if (rest !== "}" || depth !== 0) throw new NarListingParseError("a listing is cut off");
}

export interface FoundEntry {
  readonly entry: ListedEntry;
  /** Names that are left: not empty where the path leads through a link, which is the entry then. */
  readonly rest: readonly string[];
}

/** What is at a path below the root. Null when there is nothing. Reads no further than it has to. */
export async function findListedEntry(
  events: AsyncIterable<ListingEvent>,
  path: readonly string[],
): Promise<FoundEntry | null> {
  let depth = 0;
  /** How many names of the path were found, one folder in the other. */
  let found = 0;
  for await (const event of events) {
    if (event.kind === "directoryEnd") {
      depth--;
      if (depth < found) return null;
      continue;
    }
    const isNext = depth === found && (depth === 0 || event.name === path[depth - 1]);
    if (isNext) {
      const rest = path.slice(depth);
      if (rest.length === 0 || event.kind === "symlink") return { entry: event, rest };
      if (event.kind === "file") return null;
      found++;
    }
    if (event.kind === "directory") depth++;
  }
  return null;
}

function quoted(bytes: string): string {
  return JSON.stringify(byteStringText(bytes));
}

function parsed(text: string): string {
  try {
    return JSON.parse(text) as string;
  } catch (cause) {
    throw new NarListingParseError("a listing holds a string that is none", { cause });
  }
}
