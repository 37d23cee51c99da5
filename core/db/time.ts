import { type RawBuilder, sql } from "kysely";

/** The database's clock. Every time in a row comes from it, and every comparison with one is made against it. */
export const databaseNow: RawBuilder<Date> = sql<Date>`gradient_now()`;

/** The database's clock, `milliseconds` later. */
export function databaseNowPlus(milliseconds: number): RawBuilder<Date> {
  return sql<Date>`gradient_now() + ${milliseconds} * interval '1 millisecond'`;
}
