/**
 * What a failed statement means for trying again. SQLSTATE codes: PostgreSQL documentation, appendix A.
 *
 * - `conflict`: the transaction was rolled back because of another one; running its whole body again is right.
 * - `connection`: the connection was lost or never made. Whether a commit took place is unknown: only work that may
 *   happen twice is tried again.
 * - null: trying again changes nothing.
 */
export type FailureKind = "conflict" | "connection";

const KINDS: Readonly<Record<string, FailureKind>> = {
  // serialization_failure, deadlock_detected
  "40001": "conflict",
  "40P01": "conflict",
  // connection_exception and its kinds
  "08000": "connection",
  "08001": "connection",
  "08003": "connection",
  "08004": "connection",
  "08006": "connection",
  // admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections
  "57P01": "connection",
  "57P02": "connection",
  "57P03": "connection",
  "53300": "connection",
  // the system's words for a socket that is gone
  ECONNREFUSED: "connection",
  ECONNRESET: "connection",
  EPIPE: "connection",
  ENOENT: "connection",
  ETIMEDOUT: "connection",
};

/** The driver's own words, which come without a code. */
const CONNECTION_MESSAGE = /^(Connection terminated|timeout exceeded when trying to connect)/;

export function failureKind(error: unknown): FailureKind | null {
  if (!(error instanceof Error)) return null;
  if ("code" in error && typeof error.code === "string") return KINDS[error.code] ?? null;
  return CONNECTION_MESSAGE.test(error.message) ? "connection" : null;
}

/**
 * Classes of errors that speak of the values themselves: data exceptions (22), check and not-null violations, and what
 * exceeds a limit of PostgreSQL's (54). The same values fail again, in whatever transaction.
 */
const REFUSED_FOR_GOOD = /^(?:22|54)|^(?:23502|23514)$/;

export function isRefusedForGood(error: unknown): boolean {
  return error instanceof Error && "code" in error && REFUSED_FOR_GOOD.test(String(error.code));
}
