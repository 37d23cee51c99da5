import { type Clock, SECOND } from "../lib/clock.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import { type NarElsewhere, pathForProxy } from "./nar-elsewhere.ts";
import type { KnownNar, NarMemory } from "./nar-memory.ts";

/** Four threads of a runtime read disks: more at once only wait there, in front of everything else. */
const UNDER_WAY_MAX = 16;
/** As many narinfos as are looked up together. What comes while a storage gives no answer is left out. */
const WAITING_MAX = 500;
/** A disk answers in a fraction of it, one that sleeps does not: the narinfo goes out without a place then. */
const WAIT_MS_MAX: number = SECOND / 4;

export interface NarPlacesDeps {
  readonly clock: Clock;
  readonly blobs: BlobStore;
  readonly nars: NarMemory;
  readonly elsewhere?: NarElsewhere;
}

interface Wanted {
  readonly cacheId: string;
  readonly known: KnownNar;
  readonly generation: number;
  readonly found: PromiseWithResolvers<string | null>;
}

/** Where the files of NARs lie, for the proxy before us, which remembers it with their narinfos. */
export class NarPlaces {
  readonly #deps: NarPlacesDeps;
  /** By cache id and object key, those under way too. */
  readonly #wanted = new Map<string, Wanted>();
  readonly #waiting: Wanted[] = [];
  #underWay = 0;

  constructor(deps: NarPlacesDeps) {
    this.#deps = deps;
  }

  /** Whether a proxy sends files that stay where they are, and may be told where that is without being asked. */
  get areTold(): boolean {
    const { elsewhere } = this.#deps;
    return elsewhere?.proxyCounts === true && elsewhere.proxyPath !== null && !elsewhere.movingTo;
  }

  /**
   * The path that the proxy knows the file by. Null where there is no such file, the storage fails or does not answer
   * in time: whoever asks for the NAR finds out why. What is found is remembered, also when it was found too late.
   * `known` is what `nars` held at `generation`.
   */
  async find(cacheId: string, known: KnownNar, generation: number): Promise<string | null> {
    const key = keyOf(cacheId, known);
    const wanted = this.#wanted.get(key) ?? { cacheId, known, generation, found: Promise.withResolvers() };
    if (!this.#wanted.has(key)) {
      if (this.#waiting.length >= WAITING_MAX) return null;
      this.#wanted.set(key, wanted);
      this.#waiting.push(wanted);
      this.#lookOn();
    }
    const { promise: tooLate, resolve } = Promise.withResolvers<null>();
    const cancel = this.#deps.clock.schedule(WAIT_MS_MAX, () => resolve(null));
    try {
      return await Promise.race([wanted.found.promise, tooLate]);
    } finally {
      cancel();
    }
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

  async #look({ cacheId, known, generation, found }: Wanted): Promise<void> {
    const path = await pathForProxy(this.#deps, known.nar).catch(() => null);
    if (path !== null) this.#deps.nars.setPath({ cacheId, name: known.name }, path, generation);
    this.#wanted.delete(keyOf(cacheId, known));
    found.resolve(path);
  }
}

function keyOf(cacheId: string, { nar }: KnownNar): string {
  return `${cacheId}/${nar.objectKey}`;
}
