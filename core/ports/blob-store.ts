import type { ByteStream } from "../lib/streams.ts";

/**
 * Where NAR files and other large bodies are kept. Keys are written once and never reused, so an object never changes:
 * it is either absent, or whole and durable. Keys are those of `object-key.ts`.
 */
export interface BlobStore {
  /**
   * Stores the whole body under `key` and resolves when it is durable. When the body throws, nothing becomes visible
   * and the error is passed on: a body that checks its own hash at its end is therefore never stored with a wrong one.
   * Throws when the key exists.
   */
  put(key: string, body: ByteStream): Promise<{ readonly size: number }>;
  /** Null when there is no such object. The range is clipped by the caller: `start + length` is within the object. */
  get(key: string, range?: ByteRange): Promise<Blob | null>;
  /** Null when there is no such object. */
  head(key: string): Promise<{ readonly size: number } | null>;
  /** Deleting what is not there succeeds. */
  delete(key: string): Promise<void>;
  /**
   * The objects below `prefix` (whole names that end with a slash; "" is everything), in the order of their keys and a
   * page at a time: pass `next` of one page as `after` to get the following one. What is put or deleted meanwhile may
   * be in a page or not.
   */
  list(prefix: string, after?: string): Promise<ObjectPage>;
  /**
   * The same bytes under another key, without passing through us; null when there is no `from`, or when it is not
   * `version` any more. Throws when `to` exists. `from` may count as stored just now afterwards.
   */
  copy(from: string, to: string, version?: string): Promise<{ readonly size: number } | null>;
  /** Where others may read and write single objects by themselves, through URLs that end. */
  readonly presigned?: PresignedAccess;
  /**
   * Where the object can be read without us: a proxy on this machine reads the store's folder, others follow a URL that
   * ends after `lifetimeMs`. Null when it is not there, or only we can read it.
   */
  locate?(key: string, lifetimeMs: number): Promise<ObjectLocation | null>;
}

/** A path is relative to the store's folder. */
export type ObjectLocation =
  | { readonly size: number; readonly path: string }
  | { readonly size: number; readonly url: string };

export interface ByteRange {
  readonly start: number;
  readonly length: number;
}

export interface Blob {
  /** Of the whole object, also when a range was asked for. */
  readonly size: number;
  /**
   * Tells these bytes from others under the same key, which only a key that a URL for writing was given out for can
   * have. Absent where there are no such URLs.
   */
  readonly version?: string;
  /**
   * Of the bytes as they lie in the store: whoever writes to the object in place changes it. Absent where the store
   * cannot tell, and while such a change would not show.
   */
  readonly imprint?: string;
  /** Not read unless iterated; the caller iterates it or calls `discard`. */
  readonly body: ByteStream;
  discard(): Promise<void>;
}

export interface ObjectPage {
  readonly objects: readonly StoredObject[];
  /** Null at the end. */
  readonly next: string | null;
}

export interface StoredObject {
  readonly key: string;
  readonly size: number;
  /** When it got this key, by the store's own clock; some seconds off at most. */
  readonly storedAt: Date;
}

/**
 * URLs that are a right of their own: whoever has one may do what it is for until it ends, and nothing else. One is
 * made after the access decision and goes to whom it was made for. A key that others may write is one of staging: it is
 * read through and proven, and then copied to a key that no URL was made for.
 */
export interface PresignedAccess {
  /** For GET, ranges included. */
  readUrl(key: string, lifetimeMs: number): Promise<string>;
  /** For one PUT of exactly so many bytes. */
  writeUrl(key: string, size: number, lifetimeMs: number): Promise<string>;
  /** Begins an upload in parts and names it. Nothing is visible until it is finished; who gives up drops it. */
  beginParts(key: string): Promise<string>;
  /** For PUTs of exactly so many bytes; its answer's `ETag` header goes to `finishParts`. Parts count from 1. */
  partUrl(key: string, part: UploadPart, lifetimeMs: number): Promise<string>;
  /** In the order of their numbers. False when a part is missing, or the upload was dropped or finished before. */
  finishParts(key: string, upload: string, parts: readonly StoredPart[]): Promise<boolean>;
  /** Dropping what is not there succeeds. */
  dropParts(key: string, upload: string): Promise<void>;
  /** Uploads in parts that were begun before `before` and never ended, each dropped; how many there were. */
  dropAbandonedParts(prefix: string, before: Date): Promise<number>;
  /** What one part may have; the last one may be smaller. */
  readonly partBytesMin: number;
  readonly partBytesMax: number;
  readonly partsMax: number;
}

export interface UploadPart {
  readonly upload: string;
  readonly number: number;
  readonly size: number;
}

export interface StoredPart {
  readonly number: number;
  readonly etag: string;
}
