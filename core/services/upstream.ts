import type { NarInfo } from "../nix/narinfo.ts";
import type { PublicKey } from "../nix/signature.ts";
import type { StorePath } from "../nix/store-path.ts";
import type { Nar } from "./nar.ts";

/** A cache that another one rests on. */
export type Upstream = RemoteUpstream | InternalUpstream;

/** It is asked over HTTP. */
export interface RemoteUpstream {
  readonly id: string;
  readonly cacheId: string;
  /** Without a slash at its end. */
  readonly url: string;
  readonly keys: readonly PublicKey[];
  /** What opens a private one, as a header's value. It goes nowhere but to the origin of `url`. */
  readonly authorization: string | null;
  readonly sourceId: null;
}

/** Another cache of this server. It has what it holds itself: its own upstreams are not asked. */
export interface InternalUpstream {
  readonly id: string;
  readonly cacheId: string;
  /** For people. */
  readonly url: string;
  readonly sourceId: string;
}

/** A path as an upstream has it; with what is stored of it, where that is on this server. */
export type UpstreamPath = RemotePath | InternalPath;

export interface RemotePath {
  readonly upstream: RemoteUpstream;
  readonly info: NarInfo;
  /** By one of the upstream's keys. Else its content address alone speaks for it. */
  readonly signed: boolean;
  readonly nar: null;
}

export interface InternalPath {
  readonly upstream: InternalUpstream;
  readonly info: NarInfo;
  readonly nar: Nar;
}

/** What an upstream is asked for. A client that asks for a narinfo names no more than the hash. */
export interface UpstreamQuestion {
  /** The 32 characters of the store path's hash. */
  readonly hash: string;
  readonly path: StorePath | null;
  /** Of whoever asked us: servers that wait for the answer, as `Via` names them. */
  readonly via?: string | null;
}
