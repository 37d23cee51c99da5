import type { NarEvent } from "./nar.ts";

/** Nix looks for debug information here, by the 20 bytes of a build id: `ab/cdef….debug`. */
const FOLDER: readonly string[] = ["", "lib", "debug", ".build-id"];
const FIRST = /^[0-9a-f]{2}$/;
const OTHERS = /^([0-9a-f]{38})\.debug$/;

/** Where the debug information of a build id (40 hexadecimal digits) lies in the output that has it. */
export function debugMember(buildId: string): string {
  return `lib/debug/.build-id/${buildId.slice(0, 2)}/${buildId.slice(2)}.debug`;
}

/** Finds the build ids that a NAR has debug information of, as it passes. */
export class BuildIdFinder {
  readonly #max: number;
  readonly #found: string[] = [];
  /** Names of the open folders as far as they lead to debug information; `#depth` counts all that are open. */
  readonly #way: string[] = [];
  #depth = 0;

  /** More than `max` are not noted. */
  constructor(max: number) {
    this.#max = max;
  }

  /** 40 hexadecimal digits each. */
  get found(): readonly string[] {
    return this.#found;
  }

  take(event: NarEvent): void {
    if (event.kind === "directory") {
      if (this.#way.length === this.#depth && this.#leadsOn(event.name)) this.#way.push(event.name);
      this.#depth++;
    } else if (event.kind === "directoryEnd") {
      this.#depth--;
      if (this.#way.length > this.#depth) this.#way.pop();
    } else if (event.kind === "file") {
      const isThere = this.#depth === FOLDER.length + 1 && this.#way.length === this.#depth;
      const others = isThere ? OTHERS.exec(event.name)?.[1] : undefined;
      if (others && this.#found.length < this.#max) this.#found.push(`${this.#way.at(-1)}${others}`);
    }
  }

  #leadsOn(name: string): boolean {
    return this.#depth < FOLDER.length
      ? name === FOLDER[this.#depth]
      : this.#depth === FOLDER.length && FIRST.test(name);
  }
}
