import type { ByteString } from "./byte-string.ts";
import type { NarEvent } from "./nar.ts";

/**
 * The events of one entry, which becomes the root of what it holds. Reads the NAR to its end, and gives the last of the
 * entry's events only then: what goes wrong with the NAR comes in that event's place. No events when there is no such
 * entry. `path` holds the names below the NAR's root; links are not followed.
 */
export async function* narEntry(
  events: AsyncIterable<NarEvent>,
  path: readonly ByteString[],
): AsyncGenerator<NarEvent> {
  const search = new EntrySearch(path);
  let held: NarEvent | null = null;
  for await (const event of events) {
    const wanted = search.take(event);
    if (!wanted) continue;
    if (held) yield held;
    held = wanted;
  }
  if (held) yield held;
}

class EntrySearch {
  readonly #path: readonly ByteString[];
  /** Folders that are open, and how many of them, from the outside, are on the way to the entry. */
  #depth = 0;
  #onPath = 0;
  /** Between the entry's first event and its last one. */
  #inside = false;
  #found = false;

  constructor(path: readonly ByteString[]) {
    this.#path = path;
  }

  /** The event as it is in the entry; null when it does not belong to it. */
  take(event: NarEvent): NarEvent | null {
    if (event.kind === "content") return this.#inside ? event : null;
    if (event.kind === "directoryEnd") {
      this.#depth--;
      this.#onPath = Math.min(this.#onPath, this.#depth);
      const belongs = this.#inside && this.#depth >= this.#path.length;
      if (this.#depth <= this.#path.length) this.#inside = false;
      return belongs ? event : null;
    }
    const taken = this.#start(event);
    if (event.kind === "directory") this.#depth++;
    return taken;
  }

  #start(event: Exclude<NarEvent, { kind: "content" | "directoryEnd" }>): NarEvent | null {
    if (this.#inside && this.#depth > this.#path.length) return event;
    // The entry was a file, and its content is over.
    this.#inside = false;
    const isNext = this.#depth === 0 || event.name === this.#path[this.#depth - 1];
    if (this.#found || this.#onPath < this.#depth || !isNext) return null;
    if (this.#depth === this.#path.length) {
      this.#found = true;
      this.#inside = true;
      return { ...event, name: "" };
    }
    if (event.kind === "directory") this.#onPath++;
    return null;
  }
}
