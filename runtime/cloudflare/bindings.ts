/** What `wrangler.example.toml` binds, and its variables and secrets. All that is a text comes as one. */
export interface Bindings {
  readonly STORAGE?: R2Bucket;
  /** A Hyperdrive configuration; without it the connection string is the secret `GRADIENT_DATABASE_URL`. */
  readonly DATABASE?: { readonly connectionString: string };
  readonly [name: `GRADIENT_${string}`]: unknown;
}

/** Of a request's life. */
export interface RequestContext {
  /** The runtime goes on with the work after the answer, for half a minute. */
  waitUntil(work: Promise<unknown>): void;
}

/** What this code uses of R2's bindings. */
export interface R2Bucket {
  head(key: string): Promise<R2Object | null>;
  get(
    key: string,
    options?: { readonly range?: { readonly offset: number; readonly length: number }; readonly onlyIf?: R2Condition },
  ): Promise<R2Object | R2ObjectBody | null>;
  /** Null when the condition does not hold. A stream must be one of a length that is known. */
  put(
    key: string,
    value: Uint8Array | ReadableStream<Uint8Array>,
    options?: { readonly onlyIf?: R2Condition },
  ): Promise<R2Object | null>;
  delete(key: string): Promise<void>;
  list(options: {
    readonly prefix: string;
    readonly limit: number;
    readonly startAfter?: string;
  }): Promise<{ readonly objects: readonly R2Object[]; readonly truncated: boolean }>;
  createMultipartUpload(key: string): Promise<R2MultipartUpload>;
}

/** Entity tags without their quotes; `*` stands for any. */
export interface R2Condition {
  readonly etagMatches?: string;
  readonly etagDoesNotMatch?: string;
}

export interface R2Object {
  readonly key: string;
  /** Of the whole object. */
  readonly size: number;
  readonly etag: string;
  readonly uploaded: Date;
}

export interface R2ObjectBody extends R2Object {
  readonly body: ReadableStream<Uint8Array>;
}

/** All parts but the last one are of one size. */
export interface R2MultipartUpload {
  uploadPart(number: number, part: Uint8Array): Promise<R2Part>;
  complete(parts: readonly R2Part[]): Promise<R2Object>;
  abort(): Promise<void>;
}

export interface R2Part {
  readonly partNumber: number;
  readonly etag: string;
}
