import * as v from "valibot";

/** `GET /builds/{build}/download/{file}`; the token is a download token, a session's, or an API key. */
export const DownloadQuery = v.object({
  token: v.optional(v.pipe(v.string(), v.maxLength(4_096, "must have at most 4096 characters"))),
});

/** A file or folder that a build offers (`nix-support/hydra-build-products`). */
export interface DownloadView {
  readonly file_type: string;
  readonly subtype: string;
  readonly name: string;
  /** Without the store folder. */
  readonly path: string;
  /** Bytes; null for a folder, which is sent as a compressed tar file. */
  readonly size: number | null;
}

/** `GET /evals/{evaluation}/artefacts`. */
export interface ArtefactsView {
  readonly evaluation: string;
  readonly created_at: string;
  readonly entry_points: readonly EntryPointArtefacts[];
}

export interface EntryPointArtefacts {
  readonly attr: string;
  /** Without the store folder. */
  readonly derivation: string;
  readonly build_id: string;
  readonly outputs: readonly OutputArtefacts[];
}

export interface OutputArtefacts {
  readonly name: string;
  /** Without the store folder. */
  readonly store_path: string | null;
  readonly products: readonly ProductView[];
}

export interface ProductView {
  /** Stays the same for as long as the build's last success is the same. */
  readonly id: string;
  readonly type: string;
  readonly subtype: string;
  readonly name: string;
  readonly path: string;
  readonly size: number | null;
}
