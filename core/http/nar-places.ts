import type { BlobStore } from "../ports/blob-store.ts";
import type { Nar } from "../services/nar.ts";
import { type NarElsewhere, pathForProxy } from "./nar-elsewhere.ts";
import type { NarAsked, NarMemory } from "./nar-memory.ts";

/** A storage that does not answer must not gather what waits for it. */
const UNDER_WAY_MAX = 64;

export interface NarPlacesDeps {
  readonly blobs: BlobStore;
  readonly nars: NarMemory;
  readonly elsewhere?: NarElsewhere;
}

/** Looks for the files of NARs before the proxy before us asks for them, which it does one at a time. */
export class NarPlaces {
  readonly #deps: NarPlacesDeps;
  #underWay = 0;

  constructor(deps: NarPlacesDeps) {
    this.#deps = deps;
  }

  /**
   * Has the place remembered, as when it was asked for; nobody is to wait for it. Nothing is when the storage has no
   * answer, or when as many are looked for already: whoever asks for the place finds out why.
   */
  lookAhead(file: NarAsked, nar: Nar, generation: number): void {
    const { nars, elsewhere } = this.#deps;
    if (!elsewhere || elsewhere.movingTo || this.#underWay >= UNDER_WAY_MAX) return;
    this.#underWay++;
    pathForProxy(this.#deps, nar)
      .then((path) => path !== null && nars.setPath(file, path, generation))
      .catch(() => {})
      .finally(() => {
        this.#underWay--;
      });
  }
}
