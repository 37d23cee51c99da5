/** `GET /commits/{commit}`. */
export interface CommitView {
  /** The first 128 bits of the hash. */
  readonly id: string;
  /** Empty until somebody has fetched the commit. */
  readonly message: string;
  /** Byte by byte. */
  readonly hash: readonly number[];
  /** Authors of commits are no users. */
  readonly author: null;
  readonly author_name: string;
}
