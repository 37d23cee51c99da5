import pg from "pg";

/** `oid`s of pg_type. */
const INT8 = 20;
const INT8_ARRAY = 1016;
const BYTEA = 17;
const TEXT_ARRAY = 1009;

/** Throws where a `bigint` does not fit: a rounded id or size must never be used. */
function parseSafeInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`the database holds ${text}, which is not a safe integer`);
  return value;
}

type Parse = (text: string) => unknown;

const parseArrayOfText = pg.types.getTypeParser(TEXT_ARRAY as number) as Parse;
const parseBuffer = pg.types.getTypeParser(BYTEA) as Parse;

const parsers: Readonly<Record<number, Parse>> = {
  [INT8]: parseSafeInteger,
  [INT8_ARRAY]: (text) =>
    (parseArrayOfText(text) as (string | null)[]).map((item) => (item === null ? null : parseSafeInteger(item))),
  [BYTEA]: (text) => {
    // Node's Buffer shares memory where Uint8Array copies (`slice`); rows hold plain bytes.
    const { buffer, byteOffset, byteLength } = parseBuffer(text) as Uint8Array;
    return new Uint8Array(buffer, byteOffset, byteLength);
  },
};

/** Rows come as `core/db/schema.ts` says. */
export const rowTypes: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: "text" | "binary") =>
    (format !== "binary" && parsers[oid]) || pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
};
