/** So many are told apart, and as many again: 6 MB. */
const CHANGES_MAX = 20_000;

/**
 * Which paths something became of lately, for what is remembered of them. A subject is `cache id/path hash`, a cache's
 * id and a slash, or empty for everything. After 40 000 changes of others a path counts as changed, too.
 */
export class PathChanges {
  #count = 0;
  /** By subject, the number of its last change. */
  #young = new Map<string, number>();
  #old = new Map<string, number>();
  /** When the young ones began: what changed before, and is not among the old ones, is not known any more. */
  #youngSince = 0;
  #knownSince = 0;

  /** To be taken before what is remembered is looked up. */
  get generation(): number {
    return this.#count;
  }

  add(subject: string): void {
    if (this.#young.size >= CHANGES_MAX) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#knownSince = this.#youngSince;
      this.#youngSince = this.#count;
    }
    this.#young.set(subject, ++this.#count);
  }

  /** Whether something may have become of the path since that generation. */
  areSince(pathKey: string, generation: number): boolean {
    if (generation === this.#count) return false;
    if (generation < this.#knownSince) return true;
    const cacheKey = pathKey.slice(0, pathKey.indexOf("/") + 1);
    return [pathKey, cacheKey, ""].some((subject) => this.#lastOf(subject) > generation);
  }

  #lastOf(subject: string): number {
    return this.#young.get(subject) ?? this.#old.get(subject) ?? 0;
  }
}
