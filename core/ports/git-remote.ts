/** Asks repositories without cloning them. */
export interface GitRemote {
  /**
   * The commit that `ref` points to (`HEAD` when absent). `url` was checked by `parseRepositoryUrl`. Over ssh the key
   * of the organization is used; without one there is none.
   * Throws `DomainError("repository_unreachable")` with git's own words, credentials removed.
   */
  resolve(url: string, options?: ResolveOptions): Promise<RemoteCommit>;
}

export interface ResolveOptions {
  readonly ref?: string;
  readonly organizationId?: string;
  readonly signal?: AbortSignal;
}

export interface RemoteCommit {
  /** 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits. */
  readonly commit: string;
  readonly ref: string;
  /** The branch that `ref` is, or that `HEAD` points to. Null or absent: it is none, or nobody says so. */
  readonly branch?: string | null;
}
