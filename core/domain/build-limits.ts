export interface BuildDefaults {
  /** For derivations that do not say; 0 is "none". */
  readonly timeoutMs: number;
  readonly maxSilentMs: number;
}

/** A derivation's own `timeout` and `maxSilent` attributes win over the server's defaults. */
export function buildLimits(
  row: { readonly timeout_seconds: number | null; readonly max_silent_seconds: number | null },
  defaults: BuildDefaults,
): { readonly timeout_ms: number; readonly max_silent_ms: number } {
  return {
    timeout_ms: row.timeout_seconds === null ? defaults.timeoutMs : row.timeout_seconds * 1_000,
    max_silent_ms: row.max_silent_seconds === null ? defaults.maxSilentMs : row.max_silent_seconds * 1_000,
  };
}
