import type { BlobStore } from "../ports/blob-store.ts";
import type { Nar } from "../services/nar.ts";
import { type NarElsewhere, pathForProxy } from "./nar-elsewhere.ts";
import type { NarAsked, NarMemory } from "./nar-memory.ts";

/** Four threads of a runtime read disks: more at once only wait there, in front of everything else. */
const UNDER_WAY_MAX = 16;
/** As many narinfos as are looked up together. What comes while a storage gives no answer is left out. */
const WAITING_MAX = 500;

export interface NarPlacesDeps {
  readonly blobs: BlobStore;
  readonly nars: NarMemory;
  readonly elsewhere?: NarElsewhere;
}

interface Wanted {
  readonly asked: NarAsked;
  readonly nar: Nar;
  readonly generation: number;
}

/** Looks where NARs lie whose narinfo nginx has just fetched: it asks for each of them next. */
export class NarPlaces {
  readonly #deps: NarPlacesDeps;
  readonly #waiting: Wanted[] = [];
  #underWay = 0;

  constructor(deps: NarPlacesDeps) {
    this.#deps = deps;
  }

  /**
   * Has the place remembered, as when it was asked for; nobody is to wait for it. Where there is none, or the storage
   * fails, nothing is remembered: whoever asks for the place finds out why. `generation` is of before the NAR was
   * looked up.
   */
  lookAhead(asked: NarAsked, nar: Nar, generation: number): void {
    const { elsewhere } = this.#deps;
    if (!elsewhere?.proxyPath || elsewhere.movingTo || this.#waiting.length >= WAITING_MAX) return;
    this.#waiting.push({ asked, nar, generation });
    this.#lookOn();
  }

  #lookOn(): void {
    while (this.#underWay < UNDER_WAY_MAX) {
      const wanted = this.#waiting.shift();
      if (!wanted) return;
      this.#underWay++;
      void this.#look(wanted).finally(() => {
        this.#underWay--;
        this.#lookOn();
      });
    }
  }

  async #look({ asked, nar, generation }: Wanted): Promise<void> {
    const path = await pathForProxy(this.#deps, nar).catch(() => null);
    if (path !== null) this.#deps.nars.setPath(asked, path, generation);
  }
}
