/** PostgreSQL cannot be started or went away. The message is for the operator: what is wrong, and what to do. */
export class PostgresError extends Error {
  override readonly name = "PostgresError";
}
