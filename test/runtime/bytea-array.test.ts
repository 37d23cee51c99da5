import { sql } from "kysely";
import { expect, test } from "vitest";
import { byteaArray } from "#core/db/bytea-array.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { withDatabase } from "#test/support/database.ts";

const every = Uint8Array.from({ length: 256 }, (_, i) => i);

test.each<[string, Uint8Array[]]>([
  ["nothing", []],
  ["one without bytes", [new Uint8Array()]],
  [
    "every byte, what is special in text, and a part of something larger",
    [every, utf8('\\x00,"{NULL}'), every.subarray(200)],
  ],
  ["more than a thousand", Array.from({ length: 1_500 }, (_, i) => utf8(String(i)))],
  ["megabytes", [new Uint8Array(5_000_000).fill(7), every]],
])("PostgreSQL reads a list of bytes as it was written: %s", async (_, values) => {
  await using database = await withDatabase();

  const read = await sql<{ value: Uint8Array }>`
    select value from unnest(${byteaArray(values)}::bytea[]) with ordinality as given (value, place) order by place
  `.execute(database.db);

  expect(read.rows.map(({ value }) => Buffer.from(value).toString("hex"))).toEqual(
    values.map((value) => Buffer.from(value).toString("hex")),
  );
});
