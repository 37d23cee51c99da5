import type { ByteStream } from "../lib/streams.ts";

/**
 * Where NAR files and other large bodies are kept. Keys are written once and never reused, so an object never changes:
 * it is either absent, or whole and durable.
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
}

export interface ByteRange {
  readonly start: number;
  readonly length: number;
}

export interface Blob {
  /** Of the whole object, also when a range was asked for. */
  readonly size: number;
  /** Not read unless iterated; the caller iterates it or calls `discard`. */
  readonly body: ByteStream;
  discard(): Promise<void>;
}
