import { sql } from "kysely";
import { expect, test } from "vitest";
import { byteaArray } from "#core/db/bytea-array.ts";
import { toHex, utf8 } from "#core/lib/bytes.ts";
import { withDatabase } from "#test/support/database.ts";

const every = Uint8Array.from({ length: 256 }, (_, i) => i);

test("a list of bytes is written as PostgreSQL itself writes it, and reads it", async () => {
  await using database = await withDatabase();
  const lists = [
    [],
    [new Uint8Array()],
    // What is special in text, and a part of something larger.
    [every, utf8('\\x00,"{NULL}'), every.subarray(200)],
    Array.from({ length: 1_500 }, (_, i) => utf8(String(i))),
    [new Uint8Array(1_000_000).fill(7), every],
  ];
  for (const list of lists) {
    const written = byteaArray(list);

    const { rows } = await sql<{ sent: Uint8Array; read: boolean }>`
      select array_send(${list}::bytea[]) as sent, ${written}::bytea[] = ${list}::bytea[] as read
    `.execute(database.db);

    expect(rows.map(({ sent, read }) => ({ sent: toHex(sent), read }))).toEqual([{ sent: toHex(written), read: true }]);
  }
});
