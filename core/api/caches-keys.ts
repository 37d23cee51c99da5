import * as v from "valibot";
import { secretText } from "./text.ts";

export const ImportKeyBody = v.object({ secret_key: secretText }) satisfies v.GenericSchema<unknown, ImportKeyBody>;
export interface ImportKeyBody {
  /** `name:base64` of 64 bytes, as `nix-store --generate-binary-cache-key` writes it. */
  readonly secret_key: string;
}

export const RetireKeyBody = v.object({
  force: v.optional(v.boolean(), false),
}) satisfies v.GenericSchema<unknown, RetireKeyBody>;
export interface RetireKeyBody {
  /** Also while no other key has signed every path yet. */
  readonly force: boolean;
}

export interface CacheKeyView {
  readonly id: string;
  readonly name: string;
  /** `name:base64`, for `trusted-public-keys`. */
  readonly public_key: string;
  /** `retiring`: its signatures are being taken out. `retired`: it has none left. */
  readonly state: "signing" | "retiring" | "retired";
  /** How many paths it is still to sign, or its signatures are still to be taken from. */
  readonly remaining_paths: number;
  readonly created_at: string;
  readonly retired_at: string | null;
}
