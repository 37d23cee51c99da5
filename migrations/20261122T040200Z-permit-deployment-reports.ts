import { type Kysely, sql } from "kysely";

/** The bit of `reportDeployments`. */
const REPORT_DEPLOYMENTS = 1 << 14;
const ADMIN_AND_WRITE = ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"];

/** Who may start evaluations may say what hosts run, too. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    update role set permissions = permissions | ${REPORT_DEPLOYMENTS}::integer
    where id = any(${ADMIN_AND_WRITE}::uuid[])`.execute(db);
}

export async function down(db: Kysely<unknown>): Promise<void> {
  await sql`update role set permissions = permissions & ~${REPORT_DEPLOYMENTS}::integer`.execute(db);
  await sql`update api_key set permissions = permissions & ~${REPORT_DEPLOYMENTS}::integer`.execute(db);
}
