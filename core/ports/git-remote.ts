/** Asks repositories without cloning them. */
export interface GitRemote {
  /**
   * The commit that `ref` points to (`HEAD` when absent). `url` was checked by `parseRepositoryUrl`.
   * Throws `DomainError("repository_unreachable")` with git's own words, credentials removed.
   */
  resolve(url: string, options?: { readonly ref?: string; readonly signal?: AbortSignal }): Promise<RemoteCommit>;
}

export interface RemoteCommit {
  /** 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits. */
  readonly commit: string;
  readonly ref: string;
}
